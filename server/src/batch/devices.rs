//! The devices of a server: models that run on the same one share its thread, so that none starves another.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{Batcher, DeviceOptions, ShutdownTimedOut};

/// Each is started when the first model asks for it.
#[derive(Default)]
pub struct Devices(Mutex<BTreeMap<String, Arc<Batcher>>>);

impl Devices {
    /// The device of that name, as `cuda:0`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn get(&self, name: &str) -> io::Result<Arc<Batcher>> {
        let mut started = self.0.lock();
        if let Some(device) = started.get(name) {
            return Ok(Arc::clone(device));
        }
        let device = Arc::new(Batcher::start(name, DeviceOptions::default())?);
        started.insert(name.to_owned(), Arc::clone(&device));
        Ok(device)
    }

    /// Lets nothing more in, answers what has been let in for at most `within`, and drops every model.
    ///
    /// # Errors
    /// When a batch still runs at the end of that time.
    pub async fn shutdown(&self, within: Duration) -> Result<(), ShutdownTimedOut> {
        let devices = std::mem::take(&mut *self.0.lock());
        let ends: Vec<_> =
            devices.into_values().map(|device| tokio::spawn(async move { device.shutdown(within).await })).collect();
        for end in ends {
            // A task that panicked has said so.
            end.await.unwrap_or(Ok(()))?;
        }
        Ok(())
    }
}
