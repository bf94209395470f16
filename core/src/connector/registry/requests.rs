//! Requests over HTTP, from a thread of their own.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Certificate, Client, RequestBuilder, Response, Url};
use serde_json::Value;

use super::Registry;
use crate::error::{Error, Result};

/// What the registry takes and gives.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// Bytes of one answer: far above any schema.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// How long to wait before the first repetition; twice as long before each that follows.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The way to the thread, which ends with it.
pub(super) struct Requests(Sender<Request>);

/// What a question is made more exact by: a name and a value.
pub(super) type Query = Option<(&'static str, &'static str)>;

/// A question, by GET, or by POST if it has a body.
struct Request {
    path: Vec<String>,
    query: Query,
    body: Option<String>,
    reply: SyncSender<Result<Answer>>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    body: Vec<u8>,
}

/// What the thread asks with.
struct Asking {
    client: Client,
    url: Url,
    user: Option<(String, String)>,
    token: Option<String>,
    retries: u32,
}

impl Answer {
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The registry's own number for what is wrong.
    pub(super) fn code(&self) -> Option<u64> {
        self.json()?.get("error_code")?.as_u64()
    }
}

/// Whether what an answer of this status complains about may pass.
pub(super) fn may_pass(status: u16) -> bool {
    status == 429 || status >= 500
}

impl Requests {
    /// Starts the thread.
    ///
    /// # Errors
    /// As [`Registry::client`].
    pub(super) fn start(registry: &Registry) -> Result<Requests> {
        let url = Url::parse(&registry.url).map_err(|error| Error::config("the URL cannot be read").with_source(error))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::config(format!("the URL begins with `{}`; it must be http or https", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::config("the URL holds credentials, which URLs do not keep secret; give them by `basic_auth`"));
        }
        let asking = Asking { client: client(registry)?, url, user: registry.user()?, token: registry.token()?, retries: registry.retries };
        let failed = |error| Error::io("cannot start the thread that asks the schema registry", error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (sender, receiver) = channel();
        let run = move || answer_all(&asking, &receiver, &runtime);
        std::thread::Builder::new().name("thalweg-registry".to_owned()).spawn(run).map_err(failed)?;
        Ok(Requests(sender))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector) if none comes, after repetitions; retriable.
    pub(super) fn ask(&self, path: &[&str], query: Query, body: Option<String>) -> Result<Answer> {
        let (reply, answer) = sync_channel(1);
        let path = path.iter().map(|&part| part.to_owned()).collect();
        let gone = || Error::connector("the thread that asks it has panicked; this is a defect, please report it");
        self.0.send(Request { path, query, body, reply }).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

fn client(registry: &Registry) -> Result<Client> {
    let mut builder = Client::builder().timeout(registry.timeout).connect_timeout(registry.timeout).no_proxy();
    if let Some(path) = &registry.ca {
        for certificate in certificates(path)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|error| Error::config("a client of HTTP cannot be made").with_source(error))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>> {
    let shown = path.display();
    let pem = std::fs::read(path).map_err(|error| Error::config(format!("cannot read {shown}")).with_source(error))?;
    let found = Certificate::from_pem_bundle(&pem);
    let found = found.map_err(|error| Error::config(format!("{shown} does not hold certificates in PEM")).with_source(error))?;
    match found.is_empty() {
        false => Ok(found),
        true => Err(Error::config(format!("{shown} does not hold certificates in PEM"))),
    }
}

fn answer_all(asking: &Asking, requests: &Receiver<Request>, runtime: &tokio::runtime::Runtime) {
    for Request { path, query, body, reply } in requests {
        // Whoever asked may have gone.
        let _ = reply.send(runtime.block_on(asking.ask(&path, query, body.as_deref())));
    }
}

impl Asking {
    /// Asks until there is an answer that another try would not change, or tries are used up.
    async fn ask(&self, path: &[String], query: Query, body: Option<&str>) -> Result<Answer> {
        let mut wait = FIRST_WAIT;
        let mut left = self.retries;
        loop {
            let answer = read(self.request(path, query, body)?).await;
            let settled = answer.as_ref().is_ok_and(|answer| !may_pass(answer.status));
            if settled || left == 0 || answer.as_ref().is_err_and(|error| !error.is_retriable()) {
                return answer;
            }
            left -= 1;
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    fn request(&self, path: &[String], query: Query, body: Option<&str>) -> Result<RequestBuilder> {
        let mut url = self.url.clone();
        let mut segments = url.path_segments_mut().map_err(|()| Error::config("the URL has no path to go on from"))?;
        segments.pop_if_empty().extend(path);
        drop(segments);
        if let Some((name, value)) = query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let mut request = match body {
            None => self.client.get(url),
            Some(body) => self.client.post(url).header(CONTENT_TYPE, MEDIA_TYPE).body(body.to_owned()),
        };
        request = request.header(ACCEPT, MEDIA_TYPE);
        if let Some((user, password)) = &self.user {
            request = request.basic_auth(user, Some(password));
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        Ok(request)
    }
}

async fn read(request: RequestBuilder) -> Result<Answer> {
    let unreachable = |error: reqwest::Error| {
        Error::connector("it cannot be reached; is it running, and is the address right?")
            .with_source(error.without_url())
            .retriable_if(true)
    };
    let mut response: Response = request.send().await.map_err(unreachable)?;
    let (status, mut body) = (response.status().as_u16(), Vec::new());
    while let Some(piece) = response.chunk().await.map_err(unreachable)? {
        if body.len() + piece.len() > MAX_ANSWER_BYTES {
            return Err(Error::connector(format!("its answer is longer than {MAX_ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer { status, body })
}
