//! Pictures of items: put, shown, taken away.

use tonic::{Response, Status};
use vitrine::v1::{DeletePictureRequest, GetPictureRequest, Picture, PutPictureRequest};
use vitrine_models::{PictureError, check_picture};

use super::{App, catalog::no_item, log_status};
use crate::{
    error::{internal, invalid, not_found},
    image_encoder::picture::kept,
    log::{Appended, Change},
};

/// Gives an item its picture.
pub async fn put(app: &App, request: PutPictureRequest) -> Result<Response<()>, Status> {
    let (shop, id) = app.item(&request.name)?;
    let data = kept(request.data).await.map_err(|error| unusable("data", &error))?;
    let appended = shop.catalog().append(vec![Change::PutPicture(id.clone(), data)]).await.map_err(log_status)?;
    if appended.iter().any(Appended::existed) { Ok(Response::new(())) } else { Err(no_item(&id)) }
}

/// An item's picture, as it is kept.
pub async fn get(app: &App, request: GetPictureRequest) -> Result<Response<Picture>, Status> {
    let (shop, id) = app.item(&request.name)?;
    let doc = shop.catalog().items.read().doc(&id);
    let read = move || doc.map_or(Ok(None), |doc| shop.catalog().picture(doc));
    let data = tokio::task::spawn_blocking(read).await.map_err(internal)?.map_err(log_status)?;
    let data = data.ok_or_else(|| no_picture(&id))?;
    let content_type = check_picture(&data).map_err(internal)?.to_mime_type().to_owned();
    Ok(Response::new(Picture { data, content_type }))
}

/// Takes an item's picture away.
pub async fn delete(app: &App, request: DeletePictureRequest) -> Result<Response<()>, Status> {
    let (shop, id) = app.item(&request.name)?;
    let appended = shop.catalog().append(vec![Change::DeletePicture(id.clone())]).await.map_err(log_status)?;
    let existed = appended.iter().any(Appended::existed);
    if existed || request.allow_missing { Ok(Response::new(())) } else { Err(no_picture(&id)) }
}

/// The status for a picture in `field`.
pub fn unusable(field: &str, error: &PictureError) -> Status {
    invalid(field, error.to_string())
}

fn no_picture(id: &str) -> Status {
    not_found("picture", id, "the item has none, or there is no such item; PutPicture gives it one")
}
