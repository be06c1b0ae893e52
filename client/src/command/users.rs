//! `vitrine users`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use vitrine::v1::{self, EraseUserRequest, ExportUserRequest, person::Id};

use super::events::save;
use crate::{
    arguments::Global,
    exit,
    output::{counted, line},
};

/// What to do with what is recorded of one person.
#[derive(Debug, Subcommand)]
pub enum Users {
    /// Write out every event of a person, one JSON object a line
    Export {
        #[command(flatten)]
        person: Person,
        /// The file; it appears when it is complete [default: stdout]
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Erase every event of a person; it cannot be undone
    Erase {
        #[command(flatten)]
        person: Person,
        /// Yes, erase them
        #[arg(long)]
        yes: bool,
    },
}

/// Who. An event that names a user and a visitor is the user's.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Person {
    /// A known user
    #[arg(long, short, value_name = "ID")]
    user: Option<String>,
    /// An anonymous visitor
    #[arg(long, value_name = "ID")]
    visitor: Option<String>,
}

impl Users {
    pub async fn run(self, global: &Global) -> Result<u8> {
        let catalog = global.catalog()?;
        match self {
            Self::Export { person, out } => {
                let request = ExportUserRequest { catalog, person: Some(person.into()) };
                save(global.connect().await?.export_user(request).await?, out).await?;
            }
            Self::Erase { yes: false, .. } => {
                bail!("this cannot be undone; `vitrine users export` shows what would go, --yes erases it")
            }
            Self::Erase { person, yes: true } => {
                let request = EraseUserRequest { catalog, person: Some(person.into()) };
                let answer = global.connect().await?.erase_user(request).await?;
                if global.output().json {
                    global.output().object(&answer)?;
                } else {
                    line(format!("erased {}", counted(answer.erased_events, "event")))?;
                }
            }
        }
        Ok(exit::OK)
    }
}

impl From<Person> for v1::Person {
    fn from(person: Person) -> Self {
        Self { id: person.user.map(Id::UserId).or(person.visitor.map(Id::VisitorId)) }
    }
}
