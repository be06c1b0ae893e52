//! A folder that pictures are read from by names that somebody else wrote down: none leads out of it.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;

use super::{PictureError, read};

/// The folder.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Without links.
    root: PathBuf,
}

impl Folder {
    /// # Errors
    /// There is no such folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        // The parent of `items.jsonl` is empty.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Ok(Self { root: path.canonicalize()? })
    }

    /// The picture of that name.
    pub fn read(&self, name: &str) -> Result<Bytes, PictureError> {
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if !Path::new(name).components().all(inside) {
            return Err(PictureError::Outside);
        }
        // Where the name's links lead.
        let path = self.root.join(name).canonicalize()?;
        if !path.starts_with(&self.root) {
            return Err(PictureError::Outside);
        }
        read(&path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\nand so on";

    /// `outside.png`, and beside it the folder `shop` with `photos/a.png`.
    fn folders() -> (tempfile::TempDir, Folder) {
        let outer = tempfile::tempdir().unwrap();
        let shop = outer.path().join("shop");
        fs::create_dir_all(shop.join("photos")).unwrap();
        fs::write(shop.join("photos/a.png"), PNG).unwrap();
        fs::write(outer.path().join("outside.png"), PNG).unwrap();
        let folder = Folder::open(&shop).unwrap();
        (outer, folder)
    }

    #[test]
    fn a_picture_in_the_folder_is_read() {
        let (_outer, folder) = folders();
        assert_eq!(folder.read("photos/a.png").unwrap(), PNG);
        assert_eq!(folder.read("./photos/a.png").unwrap(), PNG);
        assert!(matches!(folder.read("photos/b.png"), Err(PictureError::Io(_))));
    }

    #[test]
    fn a_name_that_leads_out_of_the_folder_is_refused() {
        let (outer, folder) = folders();
        let absolute = outer.path().join("shop/photos/a.png");
        for name in ["../outside.png", "photos/../../outside.png", "photos/../photos/a.png", absolute.to_str().unwrap()]
        {
            assert!(matches!(folder.read(name), Err(PictureError::Outside)), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_folder_is_refused_and_one_within_it_is_not() {
        let (outer, folder) = folders();
        let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, folder.root.join(name)).unwrap();
        link(&outer.path().join("outside.png"), "out.png");
        link(outer.path(), "up");
        link(Path::new("photos/a.png"), "in.png");
        assert!(matches!(folder.read("out.png"), Err(PictureError::Outside)));
        assert!(matches!(folder.read("up/outside.png"), Err(PictureError::Outside)));
        assert_eq!(folder.read("in.png").unwrap(), PNG);
    }
}
