//! All catalogs of a server: one directory each, under the data directory, which one running server owns.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::{Catalog, CatalogId, CatalogOptions};
use crate::log::LogError;
use crate::log::sqlite::SqliteLog;

/// The catalogs by name.
pub struct Catalogs {
    root: PathBuf,
    options: CatalogOptions,
    open: RwLock<BTreeMap<CatalogId, Arc<Catalog>>>,
    /// Held while one is made, so that `open` need not be.
    making: Mutex<()>,
    /// Held while the server runs; the system lets go of it however the process ends.
    _lock: File,
}

/// Why catalogs are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum CatalogsError {
    /// Another server runs on this data directory; stop it, or give this one its own.
    #[error("data directory {} is in use by another running server", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// There is a catalog of that name already.
    #[error("catalog {0} exists already")]
    Exists(CatalogId),
    /// A directory cannot be used: it may be read-only, or belong to someone else.
    #[error("data directory: {} cannot be read and written: {source}", path.display())]
    Directory {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The catalog's log cannot be opened.
    #[error("catalog {catalog}: {source}")]
    Log {
        /// The catalog.
        catalog: CatalogId,
        /// Why.
        source: LogError,
    },
}

impl Catalogs {
    /// Opens all catalogs under `data_dir`, which is made if it is missing. Blocks while they are read.
    pub fn open(data_dir: &Path, options: CatalogOptions) -> Result<Self, CatalogsError> {
        let root = data_dir.join("catalogs");
        fs::create_dir_all(&root).map_err(at(&root))?;
        let lock = lock(data_dir)?;
        let mut open = BTreeMap::new();
        for entry in fs::read_dir(&root).map_err(at(&root))? {
            let dir = entry.map_err(at(&root))?.path();
            let id = dir.file_name().and_then(|name| name.to_str()?.parse::<CatalogId>().ok());
            match id {
                Some(id) if log_file(&dir).is_file() => {
                    let catalog = open_catalog(&id, &dir, &options)?;
                    open.insert(id, Arc::new(catalog));
                }
                _ => tracing::warn!(path = %dir.display(), "not a catalog: ignored"),
            }
        }
        Ok(Self { root, options, open: RwLock::new(open), making: Mutex::new(()), _lock: lock })
    }

    /// The catalog of that name, if there is one.
    pub fn get(&self, id: &CatalogId) -> Option<Arc<Catalog>> {
        self.open.read().get(id).cloned()
    }

    /// Makes an empty catalog. It is durable on return. Blocks.
    pub fn create(&self, id: &CatalogId) -> Result<Arc<Catalog>, CatalogsError> {
        let _making = self.making.lock();
        if self.get(id).is_some() {
            return Err(CatalogsError::Exists(id.clone()));
        }
        let dir = self.root.join(id.as_str());
        let catalog = self.make(id, &dir).inspect_err(|_| {
            // On a full disk a half-made catalog would stop the next start. If it stays, that start says so.
            for file in ["log.db-wal", "log.db-shm", "log.db"] {
                let _ = fs::remove_file(dir.join(file));
            }
        })?;
        let catalog = Arc::new(catalog);
        self.open.write().insert(id.clone(), Arc::clone(&catalog));
        Ok(catalog)
    }

    fn make(&self, id: &CatalogId, dir: &Path) -> Result<Catalog, CatalogsError> {
        fs::create_dir_all(dir).map_err(at(dir))?;
        let catalog = open_catalog(id, dir, &self.options)?;
        for dir in [dir, &self.root] {
            sync_dir(dir).map_err(at(dir))?;
        }
        Ok(catalog)
    }

    /// All catalogs, by name.
    pub fn list(&self) -> Vec<Arc<Catalog>> {
        self.open.read().values().cloned().collect()
    }

    /// Closes all catalogs: see [`Catalog::close`].
    pub fn close(&self) {
        for catalog in self.list() {
            catalog.close();
        }
    }
}

/// No catalog writes once the data directory is free for another server, whoever still holds one.
impl Drop for Catalogs {
    fn drop(&mut self) {
        self.close();
    }
}

fn open_catalog(id: &CatalogId, dir: &Path, options: &CatalogOptions) -> Result<Catalog, CatalogsError> {
    let opened = SqliteLog::open(&log_file(dir)).and_then(|log| Catalog::open(id.clone(), dir, Arc::new(log), options));
    opened.map_err(|source| CatalogsError::Log { catalog: id.clone(), source })
}

fn log_file(dir: &Path) -> PathBuf {
    dir.join("log.db")
}

/// Takes the data directory for this process.
fn lock(data_dir: &Path) -> Result<File, CatalogsError> {
    let path = data_dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CatalogsError::InUse { path: data_dir.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(CatalogsError::Directory { path, source }),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn at(path: &Path) -> impl Fn(io::Error) -> CatalogsError {
    move |source| CatalogsError::Directory { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> CatalogId {
        text.parse().unwrap()
    }

    fn open(dir: &Path) -> Result<Catalogs, CatalogsError> {
        Catalogs::open(dir, CatalogOptions::default())
    }

    #[test]
    fn created_catalogs_are_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("not/yet/there");
        let catalogs = open(&data).unwrap();
        for name in ["shoes", "books"] {
            catalogs.create(&id(name)).unwrap();
        }
        assert!(matches!(catalogs.create(&id("books")), Err(CatalogsError::Exists(_))));
        drop(catalogs);
        fs::create_dir(data.join("catalogs/.hidden")).unwrap();
        fs::create_dir(data.join("catalogs/half-made")).unwrap();
        let catalogs = open(&data).unwrap();
        let names: Vec<_> = catalogs.list().iter().map(|catalog| catalog.id.to_string()).collect();
        assert_eq!(names, ["books", "shoes"]);
        assert!(catalogs.get(&id("shoes")).is_some() && catalogs.get(&id("half-made")).is_none());
        assert_eq!(catalogs.create(&id("half-made")).unwrap().item_count(), 0);
    }

    #[tokio::test]
    async fn a_catalog_that_is_still_held_takes_no_writes_once_the_directory_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let catalogs = open(dir.path()).unwrap();
        let held = catalogs.create(&id("shoes")).unwrap();
        drop(catalogs);
        let refused = held.append(vec![crate::log::Change::DeleteItem("a".into())]).await;
        assert!(matches!(refused, Err(LogError::Closed)));
        open(dir.path()).unwrap();
    }

    #[test]
    fn a_data_directory_in_use_is_refused_until_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        let refused = open(dir.path()).err().unwrap();
        assert!(matches!(refused, CatalogsError::InUse { .. }));
        assert!(refused.to_string().contains("in use by another running server"));
        drop(first);
        open(dir.path()).unwrap();
    }

    #[test]
    fn a_data_directory_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = open(&file).err().unwrap();
        assert!(matches!(refused, CatalogsError::Directory { .. }));
        assert!(refused.to_string().contains(file.to_str().unwrap()));
    }

    #[tokio::test]
    async fn a_log_of_the_first_format_is_brought_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap().create(&id("shoes")).unwrap());
        let file = dir.path().join("catalogs/shoes/log.db");
        let connection = rusqlite::Connection::open(&file).unwrap();
        let before = "DROP TABLE controls; DROP TABLE pictures; UPDATE meta SET value = 1 WHERE key = 'format'";
        connection.execute_batch(before).unwrap();
        drop(connection);
        let put = || crate::log::Change::PutControl("c".into(), vitrine::v1::Control::default());
        open(dir.path()).unwrap().get(&id("shoes")).unwrap().append(vec![put()]).await.unwrap();
        assert_eq!(open(dir.path()).unwrap().get(&id("shoes")).unwrap().controls().len(), 1);
    }

    #[test]
    fn a_log_of_a_newer_format_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).unwrap().create(&id("shoes")).unwrap();
        let file = dir.path().join("catalogs/shoes/log.db");
        let connection = rusqlite::Connection::open(&file).unwrap();
        connection.execute("UPDATE meta SET value = 999 WHERE key = 'format'", []).unwrap();
        drop(connection);
        let refused = open(dir.path()).err().unwrap().to_string();
        assert!(refused.contains("shoes") && refused.contains("999"), "{refused}");
        fs::write(&file, vec![7; 8_192]).unwrap();
        let refused = open(dir.path()).err().unwrap().to_string();
        assert!(refused.contains("is damaged"), "{refused}");
    }
}
