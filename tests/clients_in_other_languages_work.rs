//! Real clients in other languages against the real server: generated from the `.proto` files, or written for another
//! server that speaks the Open Inference Protocol; and the statistics of other languages beside ours. Their packages come from PyPI and npm,
//! once for all runs.

#![cfg(test)]

mod harness;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use harness::{Start, eventually, program};
use serde_json::Value;
use vitrine::inference::{ModelReadyRequest, grpc_inference_service_client::GrpcInferenceServiceClient};

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a program, which has to succeed.
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
}

/// A folder with what `install` puts there, made anew when `wanted` changes.
fn packages(name: &str, wanted: &Path, install: impl FnOnce(&Path)) -> PathBuf {
    let folder = program("vitrine-server").with_file_name(name);
    let (mark, wanted) = (folder.join("installed"), fs::read(wanted).unwrap());
    if fs::read(&mark).is_ok_and(|installed| installed == wanted) {
        return folder;
    }
    _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    install(&folder);
    fs::write(&mark, wanted).unwrap();
    folder
}

/// Python's packages of this list.
fn python_packages(name: &str, requirements: &str) -> PathBuf {
    let requirements = source(requirements);
    packages(name, &requirements, |folder| {
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"];
        run(Command::new("python3").args(pip).arg(folder).arg("--requirement").arg(&requirements));
    })
}

/// Python with its packages and the client that it generates.
fn python() -> Command {
    let folder = python_packages("test-python", "tests/polyglot/requirements.txt");
    let generated = folder.join("generated");
    fs::create_dir_all(&generated).unwrap();
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", std::env::join_paths([&folder, &generated]).unwrap());
    python
}

#[tokio::test]
async fn python_through_a_generated_client_and_tritons_own() {
    let server = Start::with_encoder().run();
    let inference = GrpcInferenceServiceClient::connect(server.url()).await.unwrap();
    eventually("the encoder is loaded", async || {
        let request = ModelReadyRequest { name: "minilm".into(), version: String::new() };
        inference.clone().model_ready(request).await.unwrap().into_inner().ready.then_some(())
    })
    .await;
    run(python().arg(source("tests/polyglot/open_inference.py")).arg(&server.address));

    // The README's command.
    let mut generate = python();
    let generated = program("vitrine-server").with_file_name("test-python").join("generated");
    generate.args(["-m", "grpc_tools.protoc", "-I"]).arg(source("proto"));
    for kind in ["python_out", "grpc_python_out"] {
        generate.arg(format!("--{kind}={}", generated.display()));
    }
    generate.args(fs::read_dir(source("proto/vitrine/v1")).unwrap().map(|file| file.unwrap().path()));
    run(&mut generate);
    run(python().arg(source("tests/polyglot/storefront.py")).arg(&server.address));
}

#[test]
fn node_reads_the_proto_files_itself() {
    let wanted = source("tests/polyglot/package.json");
    let folder = packages("test-node", &wanted, |folder| {
        fs::copy(&wanted, folder.join("package.json")).unwrap();
        let quiet = ["install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"];
        run(Command::new("npm").args(quiet).current_dir(folder));
    });
    let server = Start::default().run();
    let mut node = Command::new("node");
    node.env("NODE_PATH", folder.join("node_modules")).arg(source("tests/polyglot/storefront.js"));
    run(node.arg(&server.address).arg(source("proto")));
}

/// What `statistics_peers.json` says that SciPy and statsmodels find they do find: our statistics are compared with it.
#[test]
fn scipy_and_statsmodels_find_what_is_recorded_of_them() {
    let folder = python_packages("test-python-statistics", "tests/polyglot/statistics.txt");
    let recorded = source("server/src/experiment/statistics/tests/statistics_peers.json");
    let script = recorded.with_extension("py");
    let output = Command::new("python3").env("PYTHONPATH", folder).arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let recorded: Value = serde_json::from_slice(&fs::read(recorded).unwrap()).unwrap();
    assert_alike(&found, &recorded, "");
}

/// Equal but for the last digits, in which versions of libraries may differ.
fn assert_alike(found: &Value, recorded: &Value, path: &str) {
    match (found, recorded) {
        (Value::Object(found), Value::Object(recorded)) => {
            assert!(found.keys().eq(recorded.keys()), "{path}");
            recorded.iter().for_each(|(key, value)| assert_alike(&found[key], value, &format!("{path}.{key}")));
        }
        (Value::Array(found), Value::Array(recorded)) => {
            assert_eq!(found.len(), recorded.len(), "{path}");
            (0..)
                .zip(found.iter().zip(recorded))
                .for_each(|(at, (found, recorded))| assert_alike(found, recorded, &format!("{path}[{at}]")));
        }
        (Value::Number(one), Value::Number(two)) => {
            let (one, two) = (one.as_f64().unwrap(), two.as_f64().unwrap());
            assert!((one - two).abs() <= 1e-10 * two.abs(), "{path}: {one} is not {two}");
        }
        _ => assert_eq!(found, recorded, "{path}"),
    }
}
