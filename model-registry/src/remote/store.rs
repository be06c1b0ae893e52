//! The store as the registry uses it: blocking calls on objects by their key, each given up after a short silence, and
//! errors that say what to do. What the objects mean is not known here.

use std::{
    fmt, fs,
    future::Future,
    io::{self, Read, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use object_store::{
    Attribute, Attributes, Error, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    UpdateVersion, path::Path as Key,
};
use tokio::runtime::{Builder, Handle, Runtime};

use super::{
    address::StoreUrl,
    error::StoreError,
    trouble::{Trouble, names_no_bucket},
};
use crate::{
    checksum::{self, Sha256},
    error::{Context as _, RegistryError},
};

/// The longest wait for an answer, or for the next piece of one.
pub(super) const SILENCE: Duration = Duration::from_secs(10);
/// The longest wait until a piece of a file is sent.
const SENDING: Duration = Duration::from_secs(60);
/// Files are sent in pieces of this size, in bytes. S3 takes 10,000 pieces of at least 5 MiB.
const PIECE: u64 = 8 << 20;
const MAX_PIECES: u64 = 10_000;
/// The attribute by which a writer knows its own write again.
const WRITER: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("vitrine-writer"));

/// A store of objects.
pub(super) struct Store {
    /// Its address, as `s3://models/prod`.
    pub name: String,
    /// Its address with the server, so that two stores of the same name are told apart.
    pub identity: String,
    pub(super) bucket: String,
    prefix: Key,
    /// Whether any are set. The machine may have some of its own.
    pub(super) has_credentials: bool,
    objects: Arc<dyn ObjectStore>,
    /// Where requests wait. A thread of its own looks after idle connections meanwhile.
    waiting: Handle,
    runtime: Option<Runtime>,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub key: String,
    pub size: u64,
    /// Changes with the content.
    pub tag: Option<String>,
}

/// An object's content.
pub(super) struct Content {
    pub bytes: Vec<u8>,
    /// What it has to be still, for a conditional write.
    pub state: UpdateVersion,
    writer: Option<String>,
}

/// How a conditional write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Done,
    /// The object is no longer what it had to be. Nothing was written.
    Overtaken,
}

impl Store {
    pub fn new(
        url: &StoreUrl,
        endpoint: Option<String>,
        has_credentials: bool,
        objects: Arc<dyn ObjectStore>,
    ) -> Result<Self, StoreError> {
        let name = url.to_string();
        let unfit = |error: io::Error| StoreError::Settings { store: name.clone(), reason: error.to_string() };
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("registry-store").enable_all().build();
        let runtime = runtime.map_err(unfit)?;
        let waiting = runtime.handle().clone();
        let identity = endpoint.map_or_else(|| name.clone(), |endpoint| format!("{name} at {endpoint}"));
        let (bucket, prefix) = (url.bucket().to_owned(), url.prefix().clone());
        Ok(Self { name, identity, bucket, prefix, has_credentials, objects, waiting, runtime: Some(runtime) })
    }

    /// Every object below `under`, in no order.
    pub fn list(&self, under: &str) -> Result<Vec<Object>, StoreError> {
        let below = self.key(under)?;
        let mut found = Vec::new();
        let mut listing = self.objects.list(Some(&below));
        while let Some(object) = self.next(&mut listing).map_err(|trouble| self.failed("listing", under, trouble))? {
            let Some(key) = object.location.prefix_match(&self.prefix) else { continue };
            let key = key.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
            found.push(Object { key, size: object.size, tag: object.e_tag });
        }
        Ok(found)
    }

    /// The content of an object of at most `limit` bytes; none if there is no such object.
    pub fn get(&self, key: &str, limit: u64) -> Result<Option<Content>, StoreError> {
        let failed = |trouble| self.failed("reading", key, trouble);
        let path = self.key(key)?;
        let found = match self.wait(SILENCE, self.objects.get(&path)) {
            Ok(found) => found,
            Err(Trouble::Store(Error::NotFound { source, .. })) if !names_no_bucket(&source.to_string()) => {
                return Ok(None);
            }
            Err(trouble) => return Err(failed(trouble)),
        };
        let state = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let writer = found.attributes.get(&WRITER).map(|writer| writer.as_ref().to_owned());
        if found.meta.size > limit {
            return Err(self.odd(
                "reading",
                key,
                format!("it has {} bytes, at most {limit} are read", found.meta.size),
            ));
        }
        let mut bytes = Vec::new();
        let mut body = found.into_stream();
        while let Some(piece) = self.next(&mut body).map_err(failed)? {
            bytes.extend_from_slice(&piece);
        }
        Ok(Some(Content { bytes, state, writer }))
    }

    /// Writes an object's content to `to`, until told to stop. None if there is no such object.
    pub fn download(
        &self,
        key: &str,
        to: &mut impl Write,
        path: &Path,
        stop: &AtomicBool,
    ) -> Result<Option<(Sha256, u64)>, RegistryError> {
        let location = self.key(key)?;
        let found = match self.wait(SILENCE, self.objects.get(&location)) {
            Ok(found) => found,
            Err(Trouble::Store(Error::NotFound { .. })) => return Ok(None),
            Err(trouble) => return Err(self.failed("reading", key, trouble).into()),
        };
        let (pieces, rest) = (found.into_stream(), Bytes::default());
        let mut body = Body { store: self, key, pieces, rest, stop, failure: None };
        let copied = checksum::copy(&mut body, to);
        match body.failure {
            Some(failure) => Err(failure.into()),
            None => copied.map(Some).context("writing", path),
        }
    }

    /// Writes an object if it is still in this state; with none, if it is not there.
    pub fn put_if(&self, key: &str, bytes: Vec<u8>, state: Option<UpdateVersion>) -> Result<Written, StoreError> {
        let location = self.key(key)?;
        let writer = format!("{:016x}", rand::random::<u64>());
        let mode = state.map_or(PutMode::Create, PutMode::Update);
        let attributes = Attributes::from_iter([(WRITER, writer.clone())]);
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        let length = bytes.len() as u64;
        let trouble = match self.wait(SILENCE, self.objects.put_opts(&location, PutPayload::from(bytes), options)) {
            Ok(_) => return Ok(Written::Done),
            Err(trouble) if trouble.may_have_worked() => trouble,
            Err(trouble) => return Err(self.failed("writing", key, trouble)),
        };
        // A write whose answer was lost may be sent again, and then finds itself.
        let there = self.get(key, length.max(1 << 20))?;
        if there.is_some_and(|there| there.writer == Some(writer)) {
            return Ok(Written::Done);
        }
        match trouble {
            Trouble::Store(Error::Precondition { .. } | Error::AlreadyExists { .. }) => Ok(Written::Overtaken),
            trouble => Err(self.failed("writing", key, trouble)),
        }
    }

    /// Writes an object with a file's content, in pieces.
    pub fn upload(&self, key: &str, path: &Path) -> Result<(), RegistryError> {
        let location = self.key(key)?;
        let mut file = fs::File::open(path).context("opening", path)?;
        let size = file.metadata().context("opening", path)?.len();
        if size <= PIECE {
            let bytes = fs::read(path).context("reading", path)?;
            let sent = self.wait(SENDING, self.objects.put(&location, PutPayload::from(bytes)));
            return sent.map(drop).map_err(|trouble| self.failed("writing", key, trouble).into());
        }
        let failed = |trouble| RegistryError::from(self.failed("writing", key, trouble));
        let mut upload = self.wait(SILENCE, self.objects.put_multipart(&location)).map_err(failed)?;
        let sent = self.send_pieces(&mut file, PIECE.max(size.div_ceil(MAX_PIECES)), upload.as_mut());
        match sent {
            Ok(Ok(())) => Ok(()),
            unsent => {
                // The store forgets what was begun sooner or later in any case.
                let _ = self.wait(SILENCE, upload.abort());
                unsent.context("reading", path)?.map_err(failed)
            }
        }
    }

    fn send_pieces(
        &self,
        file: &mut fs::File,
        size: u64,
        upload: &mut dyn MultipartUpload,
    ) -> io::Result<Result<(), Trouble>> {
        loop {
            let mut piece = Vec::new();
            if Read::by_ref(file).take(size).read_to_end(&mut piece)? == 0 {
                return Ok(self.wait(SENDING, upload.complete()).map(drop));
            }
            if let Err(trouble) = self.wait(SENDING, upload.put_part(PutPayload::from(piece))) {
                return Ok(Err(trouble));
            }
        }
    }

    /// Removes an object. One that is not there is as good.
    pub fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.wait(SILENCE, self.objects.delete(&self.key(key)?)) {
            Ok(()) | Err(Trouble::Store(Error::NotFound { .. })) => Ok(()),
            Err(trouble) => Err(self.failed("removing", key, trouble)),
        }
    }

    fn key(&self, key: &str) -> Result<Key, StoreError> {
        let inside = Key::parse(key).map_err(|error| self.odd("naming", key, error.to_string()))?;
        Ok(self.prefix.parts().chain(inside.parts()).collect())
    }

    fn wait<T>(&self, limit: Duration, request: impl Future<Output = Result<T, Error>>) -> Result<T, Trouble> {
        let answer = self.waiting.block_on(async { tokio::time::timeout(limit, request).await });
        answer.map_err(|_| Trouble::Silence(limit))?.map_err(Trouble::Store)
    }

    fn next<T>(&self, pieces: &mut BoxStream<'static, Result<T, Error>>) -> Result<Option<T>, Trouble> {
        self.wait(SILENCE, async { pieces.next().await.transpose() })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Dropping it as it is would panic where the last owner is a task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.identity).finish()
    }
}

/// An object's content as it comes.
struct Body<'a> {
    store: &'a Store,
    key: &'a str,
    pieces: BoxStream<'static, Result<Bytes, Error>>,
    rest: Bytes,
    stop: &'a AtomicBool,
    failure: Option<StoreError>,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            let next = if self.stop.load(Ordering::Relaxed) {
                Err(StoreError::Stopped { store: self.store.name.clone() })
            } else {
                let next = self.store.next(&mut self.pieces);
                next.map_err(|trouble| self.store.failed("reading", self.key, trouble))
            };
            match next {
                Ok(Some(piece)) => self.rest = piece,
                Ok(None) => return Ok(0),
                Err(failure) => {
                    self.failure = Some(failure);
                    return Err(io::ErrorKind::Other.into());
                }
            }
        }
        let taken = self.rest.split_to(buffer.len().min(self.rest.len()));
        (&taken[..]).read(buffer)
    }
}
