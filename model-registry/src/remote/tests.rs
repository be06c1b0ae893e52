//! Mirrors of a store in memory.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use object_store::{ObjectStore, memory::InMemory};

use super::*;
use crate::{
    labels::LABELS,
    name::{Label, Version},
    publish::PublishRequest,
};

/// A store, and a folder for its mirrors.
struct Scene {
    objects: Arc<InMemory>,
    folder: tempfile::TempDir,
}

fn scene() -> Scene {
    Scene { objects: Arc::new(InMemory::new()), folder: tempfile::tempdir().unwrap() }
}

fn store(objects: &Arc<InMemory>) -> Store {
    let objects: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(objects);
    Store::new(&"s3://models/prod".parse().unwrap(), None, true, objects).unwrap()
}

fn version(number: u32) -> Version {
    Version::new(number).unwrap()
}

fn minilm() -> ModelName {
    "minilm".parse().unwrap()
}

fn stable() -> Label {
    "stable".parse().unwrap()
}

impl Scene {
    /// Another machine's mirror.
    fn mirror(&self, name: &str) -> Mirror {
        Mirror::of(store(&self.objects), self.folder.path().join(name)).unwrap()
    }

    /// Publishes a version with this configuration, as from another machine.
    fn publish(&self, config: &str) -> Version {
        publish(&self.mirror("publisher").registry(), config).unwrap().version
    }

    fn put(&self, key: &str, content: &str) {
        let file = self.folder.path().join("content");
        fs::write(&file, content).unwrap();
        store(&self.objects).upload(key, &file).unwrap();
    }

    fn delete(&self, key: &str) {
        store(&self.objects).delete(key).unwrap();
    }
}

fn publish(registry: &Registry, config: &str) -> Result<VersionDir, RegistryError> {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("1_Pooling")).unwrap();
    fs::write(source.path().join("1_Pooling/config.json"), "{}").unwrap();
    fs::write(source.path().join("config.json"), config).unwrap();
    registry.publish(&PublishRequest::from_folder(&minilm(), "bert", "text-embedding", source.path())?)
}

fn usable(registry: &Registry) -> Vec<u32> {
    registry.versions(&minilm()).unwrap().usable.iter().map(|found| found.version.get()).collect()
}

fn hidden(folder: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(".staging")).collect()
}

#[test]
fn what_is_published_on_one_machine_is_mirrored_on_another_as_it_was() {
    let scene = scene();
    let published = publish(&scene.mirror("here").registry(), "{}").unwrap();
    let there = scene.mirror("there");
    assert_eq!(there.sync().unwrap().fetched, [(minilm(), version(1))]);
    let mirrored = there.registry().version(&minilm(), version(1)).unwrap();
    assert_eq!((&mirrored.manifest, mirrored.verify().unwrap()), (&published.manifest, Vec::new()));
    assert_eq!(there.sync().unwrap(), Synced::default(), "nothing is fetched twice");
    assert_eq!(scene.mirror("there").sync().unwrap(), Synced::default(), "nor after a restart");
}

#[test]
fn a_publisher_has_the_version_without_fetching_it() {
    let scene = scene();
    let mirror = scene.mirror("here");
    let published = publish(&mirror.registry(), "{}").unwrap();
    assert_eq!(mirror.registry().version(&minilm(), version(1)).unwrap(), published);
    assert_eq!(mirror.sync().unwrap(), Synced::default());
    assert_eq!(hidden(&mirror.registry.model_folder(&minilm())), [] as [PathBuf; 0]);
}

#[test]
fn a_version_without_a_manifest_is_on_its_way() {
    let scene = scene();
    scene.publish("{}");
    scene.put("models/minilm/2/config.json", "{}");
    let mirror = scene.mirror("here");
    mirror.sync().unwrap();
    assert_eq!(usable(&mirror.registry()), [1]);
    assert_eq!(mirror.status().left_out, []);
    assert_eq!(scene.publish("{}"), version(3), "its number is taken");
}

#[test]
fn a_damaged_version_is_told_and_holds_up_neither_the_next_nor_other_labels() {
    let scene = scene();
    for _ in 0..3 {
        scene.publish("{}");
    }
    let registry = scene.mirror("operator").registry();
    registry.set_label(&minilm(), &stable(), version(1), None).unwrap();
    let mirror = scene.mirror("here");
    scene.put("models/minilm/2/config.json", "[]");
    mirror.sync().unwrap();
    assert_eq!(usable(&mirror.registry()), [1, 3]);

    registry.set_label(&minilm(), &stable(), version(2), Some(version(1))).unwrap();
    registry.set_label(&minilm(), &"canary".parse().unwrap(), version(3), None).unwrap();
    let left_out = mirror.sync().unwrap().left_out;
    assert!(left_out[0].version == Some(version(2)) && left_out[0].reason.contains("checksum"), "{left_out:?}");
    let labels = mirror.registry().labels(&minilm()).unwrap();
    assert_eq!(labels.get(&stable()), Some(version(1)), "it stays where it was");
    assert_eq!(labels.get(&"canary".parse().unwrap()), Some(version(3)));
    assert_eq!(registry.current_labels(&minilm()).unwrap().get(&stable()), Some(version(2)));

    scene.put("models/minilm/2/config.json", "{}");
    assert_eq!(mirror.sync().unwrap().fetched, [(minilm(), version(2))], "it was made whole");
    assert_eq!(mirror.registry().labels(&minilm()).unwrap().get(&stable()), Some(version(2)));
}

#[test]
fn a_label_for_a_version_that_misses_a_file_is_refused() {
    let scene = scene();
    scene.publish("{}");
    scene.delete("models/minilm/1/config.json");
    let registry = scene.mirror("here").registry();
    let error = registry.set_label(&minilm(), &stable(), version(1), None).unwrap_err();
    assert!(matches!(&error, RegistryError::Unusable { reason, .. } if reason.contains("config.json")), "{error}");
    let error = registry.set_label(&minilm(), &stable(), version(2), None).unwrap_err();
    assert!(matches!(error, RegistryError::UnknownVersion { .. }), "{error}");
    let error = registry.set_label(&"other".parse().unwrap(), &stable(), version(2), None).unwrap_err();
    assert!(matches!(error, RegistryError::UnknownModel(_)), "{error}");
}

#[test]
fn labels_go_forth_back_and_away_in_the_store_and_here() {
    let scene = scene();
    let mirror = scene.mirror("here");
    let registry = mirror.registry();
    for _ in 0..2 {
        publish(&registry, "{}").unwrap();
    }
    let both = || {
        let here = registry.labels(&minilm()).unwrap();
        assert_eq!(here, registry.current_labels(&minilm()).unwrap());
        here.get(&stable())
    };
    registry.set_label(&minilm(), &stable(), version(1), None).unwrap();
    let before = registry.set_label(&minilm(), &stable(), version(2), Some(version(1))).unwrap();
    assert_eq!(both(), Some(version(2)));
    registry.undo_label(&minilm(), &stable(), version(2), before).unwrap();
    assert_eq!(both(), Some(version(1)));
    registry.set_label(&minilm(), &stable(), version(2), Some(version(1))).unwrap();
    assert_eq!(registry.roll_back(&minilm(), &stable()).unwrap().0, version(1));
    assert_eq!(both(), Some(version(1)));
    let error = registry.remove_label(&minilm(), &stable(), version(2)).unwrap_err();
    assert!(matches!(error, RegistryError::LabelMoved { actual: Some(one), .. } if one == version(1)), "{error}");
    registry.remove_label(&minilm(), &stable(), version(1)).unwrap();
    assert_eq!(both(), None);
}

#[test]
fn labels_that_cannot_be_read_stay_as_they_were_here() {
    let scene = scene();
    scene.publish("{}");
    scene.mirror("operator").registry().set_label(&minilm(), &stable(), version(1), None).unwrap();
    let mirror = scene.mirror("here");
    mirror.sync().unwrap();
    scene.put(&format!("models/minilm/{LABELS}"), "{");
    let left_out = mirror.sync().unwrap().left_out;
    assert!(left_out[0].version.is_none() && left_out[0].reason.contains(LABELS), "{left_out:?}");
    assert_eq!(mirror.registry().labels(&minilm()).unwrap().get(&stable()), Some(version(1)));
}

#[test]
fn versions_and_models_that_the_store_removed_go_here_too() {
    let scene = scene();
    for _ in 0..2 {
        scene.publish("{}");
    }
    scene.put("models/other/1/config.json", "{}");
    let manifest = fs::read_to_string(scene.folder.path().join("publisher/models/minilm/1/manifest.json")).unwrap();
    scene.put("models/other/1/1_Pooling/config.json", "{}");
    scene.put("models/other/1/manifest.json", &manifest);
    let mirror = scene.mirror("here");
    assert_eq!(mirror.sync().unwrap().fetched.len(), 3);

    scene.delete("models/minilm/1/manifest.json");
    for file in ["config.json", "1_Pooling/config.json", "manifest.json"] {
        scene.delete(&format!("models/other/1/{file}"));
    }
    let removed = mirror.sync().unwrap().removed;
    assert_eq!(removed, [(minilm(), version(1)), ("other".parse().unwrap(), version(1))]);
    assert_eq!((usable(&mirror.registry()), mirror.registry().models().unwrap()), (vec![2], vec![minilm()]));
}

#[test]
fn a_store_that_is_empty_all_at_once_empties_no_mirror() {
    let scene = scene();
    scene.publish("{}");
    let mirror = scene.mirror("here");
    mirror.sync().unwrap();
    scene.delete("models/minilm/1/manifest.json");
    let error = mirror.sync().unwrap_err();
    assert!(error.to_string().contains("nothing was removed"), "{error}");
    assert_eq!(usable(&mirror.registry()), [1]);
    assert_eq!(mirror.status().failure, Some(error.to_string()));
}

#[test]
fn a_folder_that_is_something_else_is_not_made_a_mirror() {
    let scene = scene();
    let own = scene.folder.path().join("own");
    fs::create_dir_all(own.join("models/minilm")).unwrap();
    let error = Mirror::of(store(&scene.objects), own).unwrap_err().to_string();
    assert!(error.contains("a registry of its own"), "{error}");
    let here = scene.mirror("here").registry().root().to_owned();
    let other = Store::new(&"s3://other".parse().unwrap(), None, true, Arc::new(InMemory::new())).unwrap();
    let error = Mirror::of(other, here).unwrap_err().to_string();
    assert!(error.contains("mirrors s3://models/prod"), "{error}");
}

#[test]
fn what_a_killed_synchronisation_left_is_removed_and_a_damaged_copy_replaced() {
    let scene = scene();
    scene.publish("{}");
    let mirror = scene.mirror("here");
    mirror.sync().unwrap();
    let folder = mirror.registry().model_folder(&minilm());
    fs::create_dir_all(folder.join(".staging-fetch-dead/version")).unwrap();
    fs::remove_file(folder.join("1/config.json")).unwrap();
    assert_eq!(mirror.sync().unwrap().fetched, [(minilm(), version(1))]);
    assert_eq!((usable(&mirror.registry()), hidden(&folder)), (vec![1], Vec::new()));
}

#[test]
fn what_the_store_holds_is_told_without_fetching_it() {
    let scene = scene();
    scene.publish("{}");
    scene.publish("{}");
    scene.delete("models/minilm/2/config.json");
    scene.mirror("operator").registry().set_label(&minilm(), &stable(), version(1), None).unwrap();
    let mirror = scene.mirror("here");
    let stored = mirror.stored().unwrap();
    assert_eq!(stored[0].versions.newest().unwrap().version, version(1));
    assert_eq!(stored[0].versions.unusable[0].version, version(2));
    assert_eq!(stored[0].labels.get(&stable()), Some(version(1)));
    assert_eq!(mirror.registry().models().unwrap(), []);
}

#[test]
fn removing_versions_says_that_it_needs_a_folder() {
    let registry = scene().mirror("here").registry();
    let options = crate::gc::GcOptions { keep_newest: 1, keep: [].into(), dry_run: true };
    let error = registry.gc(&minilm(), &options).unwrap_err().to_string();
    assert!(error.contains("s3://models/prod") && error.contains("folder"), "{error}");
}

#[tokio::test]
async fn the_last_owner_may_be_a_task() {
    drop(scene().mirror("here"));
}

#[test]
fn a_mirror_that_is_opened_again_knows_how_old_it_is() {
    let scene = scene();
    assert_eq!(scene.mirror("here").status().behind, None);
    scene.mirror("here").sync().unwrap();
    assert!(scene.mirror("here").status().behind.is_some());
}

#[test]
fn an_experiment_changes_in_the_store_and_follows_to_other_mirrors() {
    let scene = scene();
    scene.publish("{}");
    let name: Label = "search-encoder".parse().unwrap();
    let (here, there) = (scene.mirror("here"), scene.mirror("there"));
    there.sync().unwrap();
    assert!(here.registry().change_experiment(&name, None, Some(b"1")).unwrap());
    assert_eq!(here.registry().experiments().unwrap()[&name], b"1");
    there.sync().unwrap();
    assert_eq!(there.registry().experiments().unwrap()[&name], b"1");
    assert!(!there.registry().change_experiment(&name, None, Some(b"2")).unwrap());
    assert!(there.registry().change_experiment(&name, Some(b"1"), Some(b"2")).unwrap());
    here.sync().unwrap();
    assert_eq!(here.registry().experiments().unwrap()[&name], b"2");
    assert!(here.registry().change_experiment(&name, Some(b"2"), None).unwrap());
    there.sync().unwrap();
    assert!(there.registry().experiments().unwrap().is_empty());
}
