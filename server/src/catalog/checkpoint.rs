//! The file that saves a start from replaying every event: [`Behaviour`] as it was at some position of the log.
//!
//! It is a convenience: a file that is missing, damaged, of another log or ahead of it is ignored.
//! Layout: the log's time of creation (8 bytes, little-endian), then the behaviour as it saves itself, with checksum.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::behaviour::Behaviour;
use crate::log::Seq;

/// The checkpoint file of one catalog.
pub(super) struct Checkpoint {
    path: PathBuf,
    created_ms: i64,
}

impl Checkpoint {
    /// The checkpoint in a catalog's directory, for the log made at `created_ms` (unix milliseconds).
    pub fn new(dir: &Path, created_ms: i64) -> Self {
        Self { path: dir.join("behaviour.checkpoint"), created_ms }
    }

    /// The behaviour and the position it was saved at; from nothing if there is no good checkpoint up to `head`.
    pub fn load(&self, head: Seq) -> (Behaviour, Seq) {
        match self.try_load(head) {
            Ok(Some(loaded)) => loaded,
            Ok(None) => Default::default(),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), error, "checkpoint ignored: all events are replayed");
                Default::default()
            }
        }
    }

    fn try_load(&self, head: Seq) -> Result<Option<(Behaviour, Seq)>, Box<dyn Error>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut created_ms = [0; size_of::<i64>()];
        file.read_exact(&mut created_ms)?;
        if i64::from_le_bytes(created_ms) != self.created_ms {
            return Err("of another log".into());
        }
        let (behaviour, seq) = Behaviour::load(file)?;
        if seq > head.0 {
            return Err("ahead of the log".into());
        }
        Ok(Some((behaviour, Seq(seq))))
    }

    /// Replaces the checkpoint by one at `seq`: on return it is on disk; until then the old one is.
    pub fn save(&self, behaviour: &Behaviour, seq: Seq) -> Result<(), Box<dyn Error>> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&self.created_ms.to_le_bytes())?;
        behaviour.save(&file, seq.0)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vitrine::v1::{Event, EventType};

    use super::*;

    fn visited() -> Behaviour {
        let mut behaviour = Behaviour::default();
        let event = Event { user_id: "u".into(), r#type: EventType::View.into(), ..Event::default() };
        behaviour.apply(&event, &[0], 1);
        behaviour
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::new(dir.path(), 5);
        assert_eq!(checkpoint.load(Seq(9)).1, Seq(0));
        checkpoint.save(&visited(), Seq(9)).unwrap();
        let (behaviour, seq) = checkpoint.load(Seq(9));
        assert_eq!((behaviour.events(), seq), (1, Seq(9)));
    }

    #[test]
    fn a_checkpoint_ahead_of_the_log_or_of_another_one_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::new(dir.path(), 5);
        checkpoint.save(&visited(), Seq(9)).unwrap();
        assert_eq!(checkpoint.load(Seq(8)).1, Seq(0));
        assert_eq!(Checkpoint::new(dir.path(), 6).load(Seq(9)).1, Seq(0));
    }

    #[test]
    fn a_damaged_checkpoint_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::new(dir.path(), 5);
        checkpoint.save(&visited(), Seq(9)).unwrap();
        let good = fs::read(&checkpoint.path).unwrap();
        for cut in [0, 1, 40, good.len() / 2, good.len() - 1] {
            fs::write(&checkpoint.path, &good[..cut]).unwrap();
            assert_eq!(checkpoint.load(Seq(9)).1, Seq(0), "cut to {cut}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&checkpoint.path, bad).unwrap();
            assert_eq!(checkpoint.load(Seq(9)).1, Seq(0), "changed at {at}");
        }
    }
}
