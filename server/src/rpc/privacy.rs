//! `PrivacyService`: what is recorded of one person, handed out or erased.

use tonic::{Request, Response, Status};
use vitrine::v1::{
    EraseUserRequest, EraseUserResponse, Event, ExportUserRequest, Person, person::Id,
    privacy_service_server::PrivacyService,
};

use super::{
    App,
    catalog::{Sent, export},
    log_status,
};
use crate::{
    check,
    error::{Violations, internal, invalid},
    log::Who,
};

#[tonic::async_trait]
impl PrivacyService for App {
    type ExportUserStream = Sent<Event>;

    async fn export_user(&self, request: Request<ExportUserRequest>) -> Result<Response<Sent<Event>>, Status> {
        let request = request.into_inner();
        let shop = self.shop("catalog", &request.catalog)?;
        Ok(Response::new(export(shop.catalog().events_of(who(request.person)?))))
    }

    async fn erase_user(&self, request: Request<EraseUserRequest>) -> Result<Response<EraseUserResponse>, Status> {
        let request = request.into_inner();
        let shop = self.shop("catalog", &request.catalog)?;
        let who = who(request.person)?;
        let erased = shop.catalog().erase(who.clone()).await.map_err(log_status)?;
        let exposures = tokio::task::spawn_blocking(move || shop.exposures().erase(&who));
        exposures.await.map_err(internal)?.map_err(log_status)?;
        Ok(Response::new(EraseUserResponse { erased_events: erased as i64 }))
    }
}

pub fn who(person: Option<Person>) -> Result<Who, Status> {
    let mut violations = Violations::default();
    let who = match person.and_then(|person| person.id) {
        None => return Err(invalid("person", "is required: a `user_id` or a `visitor_id`")),
        Some(Id::UserId(id)) => {
            check::id(&mut violations, "person.user_id", &id);
            Who::User(id)
        }
        Some(Id::VisitorId(id)) => {
            check::id(&mut violations, "person.visitor_id", &id);
            Who::Visitor(id)
        }
    };
    violations.into_result()?;
    Ok(who)
}
