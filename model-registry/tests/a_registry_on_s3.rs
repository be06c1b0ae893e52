//! A registry on a real S3 server: mirrored as it was published, its labels moved by one at a time, and served from the
//! mirror while the server is away.

#![cfg(test)]

mod s3_server;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::Ordering,
    thread,
    time::Duration,
};

use s3_server::{BUCKET, S3};
use tempfile::TempDir;
use vitrine_registry::{
    Label, Mirror, ModelName, PublishRequest, Registry, RegistryError, StoreError, Version, VersionDir,
};

/// Weights of more than one piece of an upload, in bytes.
const LARGE: usize = 17 << 20;

struct Scene {
    s3: S3,
    folder: TempDir,
}

fn scene() -> Scene {
    Scene { s3: S3::start(), folder: tempfile::tempdir().unwrap() }
}

impl Scene {
    /// Another machine's mirror.
    fn mirror(&self, name: &str) -> Mirror {
        let url = format!("s3://{BUCKET}/prod").parse().unwrap();
        Mirror::open_with(&url, self.folder.path().join(name), self.s3.settings()).unwrap()
    }

    /// A folder with this configuration, and weights of this length.
    fn files(&self, config: &str, weights: usize) -> PathBuf {
        let folder = self.folder.path().join("files");
        fs::create_dir_all(folder.join("1_Pooling")).unwrap();
        fs::write(folder.join("config.json"), config).unwrap();
        fs::write(folder.join("1_Pooling/a file with spaces & more.json"), "{}").unwrap();
        let mut header = format!(r#"{{"a":{{"dtype":"U8","shape":[{weights}],"data_offsets":[0,{weights}]}}}}"#);
        header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
        let body: Vec<u8> = (0..weights).map(|n| (n % 251) as u8).collect();
        let weights = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &body].concat();
        fs::write(folder.join("model.safetensors"), weights).unwrap();
        folder
    }

    fn publish(&self, registry: &Registry, config: &str) -> VersionDir {
        registry.publish(&request(&self.files(config, 8))).unwrap()
    }
}

fn request(files: &Path) -> PublishRequest {
    PublishRequest::from_folder(&minilm(), "bert", "text-embedding", files).unwrap()
}

fn minilm() -> ModelName {
    "minilm".parse().unwrap()
}

fn stable() -> Label {
    "stable".parse().unwrap()
}

fn version(number: u32) -> Version {
    Version::new(number).unwrap()
}

fn usable(registry: &Registry) -> Vec<u32> {
    registry.versions(&minilm()).unwrap().usable.iter().map(|found| found.version.get()).collect()
}

/// Waits until it is so. One that never is hangs, and is ended by who runs the tests.
fn eventually(what: impl Fn() -> bool) {
    while !what() {
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_version_is_mirrored_as_it_was_published() {
    let scene = scene();
    let here = scene.mirror("here").registry();
    let published = here.publish(&request(&scene.files("{}", LARGE))).unwrap();
    here.set_label(&minilm(), &stable(), published.version, None).unwrap();

    let there = scene.mirror("there");
    assert_eq!(there.sync().unwrap().fetched, [(minilm(), version(1))]);
    let mirrored = there.registry().version(&minilm(), version(1)).unwrap();
    assert_eq!(mirrored.manifest, published.manifest);
    assert_eq!(mirrored.verify().unwrap(), []);
    assert_eq!(there.registry().labels(&minilm()).unwrap().get(&stable()), Some(version(1)));
}

#[test]
fn of_two_who_move_a_label_at_once_one_is_told() {
    let scene = scene();
    let (here, there) = (scene.mirror("here"), scene.mirror("there"));
    for _ in 0..3 {
        scene.publish(&here.registry(), "{}");
    }
    here.registry().set_label(&minilm(), &stable(), version(1), None).unwrap();
    there.sync().unwrap();
    // Both have seen version 1.
    here.registry().set_label(&minilm(), &stable(), version(2), Some(version(1))).unwrap();
    let error = there.registry().set_label(&minilm(), &stable(), version(3), Some(version(1))).unwrap_err();
    assert!(matches!(error, RegistryError::LabelMoved { actual: Some(two), .. } if two == version(2)), "{error}");
    assert_eq!(there.registry().roll_back(&minilm(), &stable()).unwrap().0, version(1));
    here.sync().unwrap();
    assert_eq!(here.registry().labels(&minilm()).unwrap().get(&stable()), Some(version(1)));
}

#[test]
fn of_eight_machines_with_the_same_expectation_one_wins_and_other_labels_are_not_lost() {
    let scene = scene();
    let first = scene.mirror("0").registry();
    for _ in 0..3 {
        scene.publish(&first, "{}");
    }
    first.set_label(&minilm(), &stable(), version(1), None).unwrap();
    let mirrors: Vec<Mirror> = (0..8).map(|n| scene.mirror(&n.to_string())).collect();
    let won = thread::scope(|scope| {
        let change = |(n, mirror): (usize, &Mirror)| {
            let registry = mirror.registry();
            let own = format!("machine-{n}").parse().unwrap();
            registry.set_label(&minilm(), &own, version(1), None).unwrap();
            match registry.set_label(&minilm(), &stable(), version(2 + n as u32 % 2), Some(version(1))) {
                Ok(_) => true,
                Err(RegistryError::LabelMoved { .. }) => false,
                Err(error) => panic!("{error}"),
            }
        };
        let threads: Vec<_> = mirrors.iter().enumerate().map(|machine| scope.spawn(move || change(machine))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(won, 1);
    assert_eq!(first.current_labels(&minilm()).unwrap().named.len(), 9);
}

#[test]
fn publishers_at_the_same_time_get_different_versions() {
    let scene = scene();
    let files = scene.files("{}", 8);
    let mirrors: Vec<Mirror> = (0..4).map(|n| scene.mirror(&n.to_string())).collect();
    let mut numbers: Vec<u32> = thread::scope(|scope| {
        let publish = |mirror: &Mirror| mirror.registry().publish(&request(&files)).unwrap().version.get();
        let threads: Vec<_> = mirrors.iter().map(|mirror| scope.spawn(move || publish(mirror))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let mirror = scene.mirror("5");
    mirror.sync().unwrap();
    assert_eq!(usable(&mirror.registry()), [1, 2, 3, 4]);
}

#[test]
fn a_change_whose_answer_is_lost_is_known_to_be_done() {
    let scene = scene();
    let url = format!("s3://{BUCKET}/prod").parse().unwrap();
    let (proxy, lost) = s3_server::losing_an_answer(&scene.s3, "/labels.json");
    let settings = scene.s3.settings().into_iter().chain([("AWS_ENDPOINT_URL_S3".to_owned(), proxy)]);
    let registry = Mirror::open_with(&url, scene.folder.path().join("here"), settings).unwrap().registry();
    for _ in 0..2 {
        scene.publish(&registry, "{}");
    }
    registry.set_label(&minilm(), &stable(), version(1), None).unwrap();
    assert!(lost.load(Ordering::Relaxed));
    registry.set_label(&minilm(), &stable(), version(2), Some(version(1))).unwrap();
    assert_eq!(registry.current_labels(&minilm()).unwrap().get(&stable()), Some(version(2)));
}

#[test]
fn a_half_uploaded_version_is_not_seen_and_a_damaged_one_does_not_block_the_next() {
    let scene = scene();
    let here = scene.mirror("here").registry();
    for config in ["{}", "[]", "{}"] {
        scene.publish(&here, config);
    }
    // Version 1 has lost its manifest, version 2 has other content of the same length.
    let manifest = "prod/models/minilm/1/manifest.json";
    let kept = scene.s3.get(manifest);
    scene.s3.delete(manifest);
    scene.s3.put("prod/models/minilm/2/config.json", b"{}");
    let mirror = scene.mirror("there");
    let synced = mirror.sync().unwrap();
    assert_eq!(usable(&mirror.registry()), [3]);
    assert_eq!((synced.left_out.len(), synced.left_out[0].version), (1, Some(version(2))));
    assert!(synced.left_out[0].reason.contains("config.json"), "{synced:?}");
    assert_eq!(mirror.status().left_out, synced.left_out);

    scene.s3.put(manifest, &kept);
    scene.s3.put("prod/models/minilm/2/config.json", b"[]");
    mirror.sync().unwrap();
    assert_eq!((usable(&mirror.registry()), mirror.status().left_out), (vec![1, 2, 3], Vec::new()));
}

#[test]
fn while_the_store_is_away_the_mirror_serves_and_says_so_and_then_goes_on() {
    let mut scene = scene();
    let here = scene.mirror("here").registry();
    scene.publish(&here, "{}");
    here.set_label(&minilm(), &stable(), version(1), None).unwrap();
    let mirror = scene.mirror("there");
    let _following = mirror.start(Duration::from_millis(20)).unwrap();
    eventually(|| mirror.status().behind.is_some());

    let objects = scene.s3.everything();
    scene.s3.kill();
    eventually(|| mirror.status().failure.is_some());
    let failure = mirror.status().failure.unwrap();
    assert!(failure.contains("cannot be reached") && failure.contains("AWS_ENDPOINT_URL"), "{failure}");
    assert!(mirror.status().behind.is_some());
    let registry = mirror.registry();
    assert_eq!((usable(&registry), registry.labels(&minilm()).unwrap().get(&stable())), (vec![1], Some(version(1))));
    let error = registry.set_label(&minilm(), &stable(), version(1), None).unwrap_err();
    assert!(matches!(error, RegistryError::Store(StoreError::Unreachable { .. })), "{error}");
    // A server that starts now has what the folder has.
    assert_eq!(usable(&scene.mirror("there").registry()), [1]);

    scene.s3.come_back(&objects);
    scene.publish(&here, "[]");
    eventually(|| usable(&registry) == [1, 2]);
    eventually(|| mirror.status().failure.is_none());
}

#[test]
fn a_full_disk_keeps_what_is_there_and_the_next_synchronisation_goes_on() {
    let scene = scene();
    let disk = scene.folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&disk).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("no small disk can be mounted here: nothing was tested");
        return;
    }
    let _unmounted = Unmounted(&disk);
    let here = scene.mirror("here").registry();
    scene.publish(&here, "{}");
    let mirror = scene.mirror("disk/mirror");
    mirror.sync().unwrap();
    here.publish(&request(&scene.files("{}", 3 << 20))).unwrap();
    fs::write(disk.join("filler"), vec![0; 2 << 20]).unwrap();

    let error = mirror.sync().unwrap_err().to_string();
    assert!(error.contains("No space left"), "{error}");
    assert_eq!((usable(&mirror.registry()), mirror.status().failure), (vec![1], Some(error)));
    let names = fs::read_dir(disk.join("mirror/models/minilm")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.starts_with(".staging")), "{names:?}");

    fs::remove_file(disk.join("filler")).unwrap();
    assert_eq!(mirror.sync().unwrap().fetched, [(minilm(), version(2))]);
}

struct Unmounted<'a>(&'a Path);

impl Drop for Unmounted<'_> {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
