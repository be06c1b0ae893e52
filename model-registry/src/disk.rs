//! Writing that survives a crash: syncing folders, replacing a file in one step, and the lock of a model.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use crate::error::{Context as _, RegistryError};

/// The file whose lock serialises changes to a model: publishing, labels, collection.
pub const LOCK: &str = ".lock";

/// Makes names created in, or removed from, a folder durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Replaces a file so that a reader sees the old content or the new, also after a crash.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// Holds the lock of a model's folder until dropped; waits while another process or thread holds it.
pub struct ModelLock {
    _file: File,
}

impl ModelLock {
    pub fn take(model_folder: &Path) -> Result<Self, RegistryError> {
        let path = model_folder.join(LOCK);
        let file = File::options().create(true).append(true).open(&path).context("opening the lock", &path)?;
        file.lock().context("locking", &path)?;
        Ok(Self { _file: file })
    }
}

/// Creates a folder and its parents, and makes the new names durable.
pub fn create_folders(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_folders(parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        result => result?,
    }
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_folder)
}
