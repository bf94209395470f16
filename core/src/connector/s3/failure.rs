//! What becomes of the client's errors: the store's code and its words, and what to do. Nothing else of an answer is passed on, as stores
//! repeat parts of requests, and with them tokens.

use object_store::Error as StoreError;

use crate::error::Error;

/// What the store calls a failure.
const NO_BUCKET: &str = "NoSuchBucket";
const BAD_CREDENTIALS: &[&str] =
    &["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidClientTokenId", "AuthFailure"];

/// An error of a request or a setting; `doing` says of which object.
pub(super) fn of(doing: &str, error: StoreError, secrets: &[String]) -> Error {
    let text = error.to_string();
    let code = tag(&text, "Code").unwrap_or_default();
    let retriable = is_retriable(&error, &text);
    let why = scrubbed(&said(&text), secrets);
    let advice = match &error {
        _ if code == NO_BUCKET => "there is no such bucket; check its name, the region and `endpoint_url`",
        _ if is_bad_credentials(&error, code) => {
            "the store does not take the credentials; check `access_key`, `secret_key` and `session_token`"
        }
        StoreError::PermissionDenied { .. } => "the credentials do not allow it; change the policy of the bucket or of the user",
        StoreError::NotFound { .. } => "there is no such object",
        StoreError::Precondition { .. } => "it was replaced while it was read; read it again",
        _ if retriable => "the store does not answer as it should, and has been asked again and again; try later",
        _ => "the store refuses it",
    };
    Error::connector(format!("{doing}: {advice} ({why})")).retriable_if(retriable)
}

/// Whether the store says that it has no such bucket or does not know who asks: nothing will work then.
pub(super) fn is_hopeless(error: &StoreError) -> bool {
    let text = error.to_string();
    let code = tag(&text, "Code").unwrap_or_default();
    match error {
        StoreError::NotFound { .. } => code == NO_BUCKET,
        // A key that may write but not list is told this way that the object asked for is not there.
        StoreError::PermissionDenied { .. } => is_bad_credentials(error, code),
        _ => true,
    }
}

fn is_bad_credentials(error: &StoreError, code: &str) -> bool {
    BAD_CREDENTIALS.contains(&code) || matches!(error, StoreError::Unauthenticated { .. })
}

/// Whether the cause may go away by itself: the store is busy or away, rather than of another opinion.
fn is_retriable(error: &StoreError, text: &str) -> bool {
    let refused = ["400", "401", "403", "404", "405", "409", "411", "412", "416"];
    match error {
        StoreError::Generic { .. } => {
            !refused.iter().any(|status| text.contains(&format!("status code: {status}"))) && !text.contains("builder error")
        }
        StoreError::JoinError { .. } => true,
        _ => false,
    }
}

/// What an error says, in the store's own words if it has any.
fn said(text: &str) -> String {
    let status = text.split_once("status code: ").map(|(_, rest)| rest.split(':').next().unwrap_or(rest).trim());
    match (tag(text, "Code"), tag(text, "Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => match status {
            Some(status) => format!("status {status}"),
            // A cause without an answer: no connection, no name, no certificate.
            None => text.split('<').next().unwrap_or(text).trim().to_owned(),
        },
    }
}

/// The text between two tags of the store's XML.
fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// The text without secrets.
fn scrubbed(text: &str, secrets: &[String]) -> String {
    secrets.iter().filter(|secret| !secret.is_empty()).fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "…"))
}
