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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn models_on_one_device_share_it_until_all_is_over() {
        let devices = Devices::default();
        let [one, same, other] = ["cpu", "cpu", "cuda:0"].map(|name| devices.get(name).unwrap());
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        devices.shutdown(Duration::from_mins(1)).await.unwrap();
        assert!(!Arc::ptr_eq(&one, &devices.get("cpu").unwrap()), "what is over is not given again");
    }
}
