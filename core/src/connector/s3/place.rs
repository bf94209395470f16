//! The store as a place for parts.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;

use super::S3;
use super::session::{Session, path_of};
use crate::error::{Error, Result};
use crate::sink::{PendingPart, Place};

/// Bytes of one part of an upload: S3 takes 5 MiB to 5 GiB, and 10,000 of them, which come to 80 GB.
const PIECE_BYTES: usize = 8 << 20;

/// Pieces that are sent at once. None is under way while nobody waits: a request that stands still is given up.
const AT_ONCE: usize = 4;

/// Objects that are shown at once at the end of a commit.
const SHOWN_AT_ONCE: usize = 16;

/// Objects up to this size are sent at the commit, in one request instead of three.
const SMALL_BYTES: usize = 1 << 20;

impl Place for S3 {
    /// What dead writers have begun cannot be told from what living ones write: the bucket's lifecycle rule removes it.
    fn prepare(&mut self, _extension: &str, _levels: usize) -> Result<()> {
        self.outbox = Outbox::default();
        self.probe(&*self.session()?)
    }

    fn begin(&mut self, path: &str) -> Result<Box<dyn PendingPart>> {
        let key = self.key_of(path)?;
        Ok(Box::new(Upload::new(self.session()?, path_of(&key)?, Arc::downgrade(&self.outbox))))
    }

    fn settle(&mut self) -> Result<()> {
        let session = self.session()?;
        let mut waiting = std::mem::take(&mut *self.outbox.lock().unwrap_or_else(PoisonError::into_inner)).into_iter();
        let ended = session.wait(async {
            let (mut under_way, mut ended, mut failed) = (JoinSet::new(), Vec::new(), false);
            loop {
                while under_way.len() < SHOWN_AT_ONCE
                    && !failed
                    && let Some(upload) = waiting.next()
                {
                    under_way.spawn(upload.show());
                }
                let Some(shown) = under_way.join_next().await else { break ended };
                failed |= !matches!(&shown, Ok((_, Ok(()))));
                ended.push(shown);
            }
        })?;
        for shown in ended {
            match shown {
                Ok((_, Ok(()))) => {}
                // Dropped now, outside of the runtime, the upload is aborted.
                Ok((upload, Err(error))) => return Err(upload.failed(error)),
                Err(error) => return Err(session.failed("write to", &path_of(self.place()?.1)?, error.into())),
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        self.shown().to_owned()
    }
}

impl S3 {
    /// The key of what is at `path` below the prefix.
    fn key_of(&self, path: &str) -> Result<String> {
        let (_, prefix) = self.place()?;
        Ok(if prefix.is_empty() { path.to_owned() } else { format!("{prefix}/{path}") })
    }
}

/// Uploads that were published and are not seen yet.
pub(super) type Outbox = Arc<Mutex<Vec<Upload>>>;

/// An object on its way.
pub(super) struct Upload {
    session: Arc<Session>,
    path: Path,
    /// Pieces that are full and not sent yet, and bytes behind them.
    full: Vec<Vec<u8>>,
    held: Vec<u8>,
    /// The multipart upload, if one was begun.
    upload: Option<Box<dyn MultipartUpload>>,
    /// Where it waits once it is published.
    outbox: Weak<Mutex<Vec<Upload>>>,
}

impl Upload {
    fn new(session: Arc<Session>, path: Path, outbox: Weak<Mutex<Vec<Upload>>>) -> Upload {
        Upload { session, path, full: Vec::new(), held: Vec::new(), upload: None, outbox }
    }

    /// Shows the object; gives itself back, to be dropped where an abort can be waited for.
    async fn show(mut self) -> (Upload, object_store::Result<()>) {
        let shown = match &mut self.upload {
            Some(upload) => upload.complete().await.map(drop),
            None => self.session.store.put(&self.path, PutPayload::from(std::mem::take(&mut self.held))).await.map(drop),
        };
        if shown.is_ok() {
            self.upload = None;
        }
        (self, shown)
    }

    fn failed(&self, error: object_store::Error) -> Error {
        self.session.failed("write", &self.path, error)
    }

    /// Sends the full pieces, and waits until they are there.
    fn send(&mut self) -> Result<()> {
        if self.upload.is_none() {
            let upload = self.session.wait(self.session.store.put_multipart(&self.path))?.map_err(|error| self.failed(error))?;
            self.upload = Some(upload);
        }
        let Some(upload) = &mut self.upload else { return Ok(()) };
        let mut under_way = JoinSet::new();
        for piece in self.full.drain(..) {
            under_way.spawn_on(upload.put_part(PutPayload::from(piece)), self.session.handle()?);
        }
        let sent = self.session.wait(async {
            while let Some(sent) = under_way.join_next().await {
                sent??;
            }
            Ok(())
        })?;
        sent.map_err(|error| self.failed(error))
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        if self.held.len() == PIECE_BYTES {
            self.full.push(std::mem::take(&mut self.held));
            if self.full.len() == AT_ONCE {
                self.send().map_err(io::Error::other)?;
            }
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl PendingPart for Upload {
    fn location(&self) -> String {
        self.session.url(&self.path)
    }

    fn memory_bytes(&self) -> usize {
        self.held.capacity() + self.full.len() * PIECE_BYTES
    }

    fn complete(&mut self) -> Result<()> {
        match self.upload.is_none() && self.full.is_empty() && self.held.len() <= SMALL_BYTES {
            true => {
                self.held.shrink_to_fit();
                Ok(())
            }
            false => self.flush_memory(),
        }
    }

    fn flush_memory(&mut self) -> Result<()> {
        if !self.held.is_empty() {
            self.full.push(std::mem::take(&mut self.held));
        }
        if self.full.is_empty() { Ok(()) } else { self.send() }
    }

    fn publish(self: Box<Self>) -> Result<()> {
        let outbox = self.outbox.upgrade().ok_or_else(|| Error::state("the sink of this part is gone"))?;
        outbox.lock().unwrap_or_else(PoisonError::into_inner).push(*self);
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        let aborted = self.session.wait(upload.abort());
        if let Err(error) =
            aborted.and_then(|aborted| aborted.map_err(|error| self.session.failed("abort the upload of", &self.path, error)))
        {
            tracing::warn!(%error, "an upload that was given up is still stored; a lifecycle rule of the bucket removes it");
        }
    }
}
