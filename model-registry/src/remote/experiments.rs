//! Experiments on a store: changed by conditional write, copied to the mirror with each synchronisation.

use std::collections::{BTreeMap, HashMap};

use super::{
    Remote,
    store::{Object, Written},
};
use crate::{
    error::RegistryError,
    experiments::{EXPERIMENTS, file_name, name_of},
    name::Label,
    registry::Registry,
};

/// The longest file that is read, in bytes.
const MAX_EXPERIMENT: u64 = 4 << 20;

impl Remote {
    /// An experiment's file.
    pub fn read_experiment(&self, name: &Label) -> Result<Option<Vec<u8>>, RegistryError> {
        Ok(self.store.get(&key(name), MAX_EXPERIMENT)?.map(|found| found.bytes))
    }

    /// Makes the file `after` if it is `before`.
    pub fn write_experiment(
        &self,
        name: &Label,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<bool, RegistryError> {
        let (found, state) =
            self.store.get(&key(name), MAX_EXPERIMENT)?.map(|found| (found.bytes, found.state)).unzip();
        if found.as_deref() != before {
            return Ok(false);
        }
        match after {
            Some(after) => Ok(self.store.put_if(&key(name), after.to_vec(), state)? == Written::Done),
            // No store removes by condition: who changes it in this moment has changed what was to go.
            None => self.store.delete(&key(name)).map(|()| true).map_err(Into::into),
        }
    }
}

/// Brings the mirror's experiments in step with the store's. `known` are those that are here, by the state of their object.
pub(super) fn copy(
    mirror: &Registry,
    remote: &Remote,
    known: &mut HashMap<Label, String>,
) -> Result<(), RegistryError> {
    let objects = remote.store.list(EXPERIMENTS)?;
    let named = |object: Object| Some((name_of(object.key.strip_prefix(EXPERIMENTS)?.strip_prefix('/')?)?, object.tag));
    let there: BTreeMap<Label, Option<String>> = objects.into_iter().filter_map(named).collect();
    for (name, tag) in &there {
        if tag.is_some() && known.get(name) == tag.as_ref() {
            continue;
        }
        if let Some(text) = remote.read_experiment(name)? {
            mirror.write_experiment(name, Some(&text))?;
            known.extend(tag.clone().map(|tag| (name.clone(), tag)));
        }
    }
    for gone in mirror.experiments()?.into_keys().filter(|name| !there.contains_key(name)) {
        mirror.write_experiment(&gone, None)?;
        known.remove(&gone);
    }
    Ok(())
}

fn key(name: &Label) -> String {
    format!("{EXPERIMENTS}/{}", file_name(name))
}
