//! A real S3 server for a test of its own: moto's, from PyPI, fetched once for all runs. It ends with the test. For tests
//! of any crate, and for those that are async, too.

#![allow(dead_code, reason = "each story uses a part of it")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use futures_util::TryStreamExt as _;
use object_store::{
    ObjectStore as _, ObjectStoreExt as _, PutPayload,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path as Key,
};
use tokio::runtime::Runtime;

pub const BUCKET: &str = "models";

/// A server with one bucket. What it holds is gone when it is.
pub struct S3 {
    port: u16,
    process: Option<Child>,
    objects: AmazonS3,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

impl S3 {
    pub fn start() -> Self {
        let (process, port) = serve(0);
        let builder = AmazonS3Builder::new().with_bucket_name(BUCKET).with_region("us-east-1");
        let builder = builder.with_access_key_id("test").with_secret_access_key("test");
        let builder = builder.with_endpoint(format!("http://127.0.0.1:{port}")).with_allow_http(true);
        _ = rustls::crypto::ring::default_provider().install_default();
        let (objects, runtime) = (builder.build().unwrap(), Some(Runtime::new().unwrap()));
        let server = Self { port, process: Some(process), objects, runtime };
        server.make_bucket();
        server
    }

    /// What a program needs to know to use it, as variables of its environment.
    pub fn settings(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let settings = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ];
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    pub fn put(&self, key: &str, content: &[u8]) {
        let (key, content) = (Key::from(key), PutPayload::from(content.to_vec()));
        self.wait(self.objects.put(&key, content)).unwrap();
    }

    pub fn get(&self, key: &str) -> Vec<u8> {
        let key = Key::from(key);
        self.wait(async { self.objects.get(&key).await?.bytes().await }).unwrap().into()
    }

    pub fn delete(&self, key: &str) {
        let key = Key::from(key);
        self.wait(self.objects.delete(&key)).unwrap();
    }

    /// All objects with their content.
    pub fn everything(&self) -> BTreeMap<String, Vec<u8>> {
        let listed = self.wait(self.objects.list(None).try_collect::<Vec<_>>()).unwrap();
        let keys = listed.into_iter().map(|object| object.location.to_string());
        keys.map(|key| (key.clone(), self.get(&key))).collect()
    }

    /// Kills it, with all it holds.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it again where it was, with these objects.
    pub fn come_back(&mut self, objects: &BTreeMap<String, Vec<u8>>) {
        self.process = Some(serve(self.port).0);
        self.make_bucket();
        for (key, content) in objects {
            self.put(key, content);
        }
    }

    fn make_bucket(&self) {
        let bucket = format!("http://127.0.0.1:{}/{BUCKET}", self.port);
        let answer = self.wait(async { reqwest::Client::new().put(bucket).send().await }).unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// Waits on a thread of its own: that of an async test may not.
    fn wait<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        let runtime = self.runtime.as_ref().unwrap();
        thread::scope(|scope| scope.spawn(|| runtime.block_on(work)).join().unwrap())
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.kill();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A way to the server on which the first answer to a write of an object with this end is lost; and whether it was.
pub fn losing_an_answer(server: &S3, end: &'static str) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (lost, port) = (Arc::new(AtomicBool::new(false)), server.port);
    let done = Arc::clone(&lost);
    let pass = move || {
        for client in listener.incoming() {
            let (mut client, mut behind) = (client.unwrap(), TcpStream::connect(("127.0.0.1", port)).unwrap());
            let mut asked = BufReader::new(client.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while asked.read_line(&mut head).unwrap() > 2 {
                let line = head.lines().last().unwrap().to_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            asked.read_exact(&mut body).unwrap();
            let words: Vec<&str> = head.split(' ').take(2).collect();
            let to_lose = matches!(words[..], ["PUT", path] if path.ends_with(end)) && !done.load(Ordering::Relaxed);
            behind.write_all(&[head.as_bytes(), &body].concat()).unwrap();
            let mut answer = Vec::new();
            behind.read_to_end(&mut answer).unwrap();
            if to_lose {
                done.store(true, Ordering::Relaxed);
            } else {
                client.write_all(&answer).unwrap();
            }
        }
    };
    thread::Builder::new().name("proxy".to_owned()).spawn(pass).unwrap();
    (address, lost)
}

/// Starts a server; any free port is taken for 0.
fn serve(port: u16) -> (Child, u16) {
    let mut command = Command::new("python3");
    command.args(["-c", include_str!("serve.py")]).arg(port.to_string()).env("PYTHONPATH", packages());
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = piped.spawn().unwrap();
    let mut told = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut told).unwrap();
    let port = told.trim().parse().unwrap_or_else(|error| panic!("the S3 server does not start ({told:?}): {error}"));
    (process, port)
}

/// The folder with the server's packages, made anew when other ones are wanted. Tests that start at once wait for the one
/// that makes it.
fn packages() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap().join("test-s3-server");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let (mark, wanted) = (folder.join("installed"), include_str!("requirements.txt"));
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return folder;
    }
    fs::remove_dir_all(&folder).unwrap();
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]).arg(&folder);
    let output = pip.args(wanted.lines()).output().unwrap();
    assert!(output.status.success(), "{pip:?}: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(&mark, wanted).unwrap();
    folder
}
