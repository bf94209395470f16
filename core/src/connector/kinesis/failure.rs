//! What becomes of the clients' errors: the service's code and its words, and what to do. Of what a service says only the first line is
//! passed on, as the next repeat the request, and with it tokens.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt::Debug;

use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};

use crate::error::Error;

/// Why a request failed. Behind `R` is the answer: one of HTTP, or an event of a stream of them.
pub(super) type Failure<E, R = HttpResponse> = SdkError<E, R>;

/// The codes of requests that come too fast.
const THROTTLED: &[&str] = &[
    "KMSThrottlingException",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
];

/// The codes of failures that may pass: the service is busy or away, rather than of another opinion.
const PASSING: &[&str] = &[
    "InternalFailure",
    "InternalFailureException",
    "InternalServerError",
    "RequestTimeout",
    "RequestTimeoutException",
    "ResourceInUseException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
];

/// The codes of credentials that nobody knows.
const UNKNOWN: &[&str] = &[
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// The codes of credentials that were good once.
const EXPIRED: &[&str] = &["ExpiredToken", "ExpiredTokenException", "RequestExpired"];

/// What a stream or table that is not there is called.
const MISSING: &str = "ResourceNotFoundException";

/// The error of a request; `doing` says what was being done to which stream or table.
pub(super) fn of<E, R>(doing: &str, error: &Failure<E, R>, region: &str, secrets: &[String]) -> Error
where
    E: ProvideErrorMetadata + StdError + 'static,
    R: Debug + 'static,
{
    let retriable = is_retriable(error);
    let why = scrubbed(&said(error), secrets);
    let advice = match (error, code(error)) {
        (_, Some(code)) => of_code(code, region, retriable),
        (SdkError::TimeoutError(_), None) => {
            "there was no answer in time; see that the service can be reached, or set a longer `timeout`".to_owned()
        }
        (SdkError::DispatchFailure(_), None) => {
            format!("the service of region `{region}` cannot be reached; check the region, `endpoint_url` and the network")
        }
        (SdkError::ConstructionFailure(_), None) => "the request cannot be made; check `region` and `endpoint_url`".to_owned(),
        _ if retriable => TRY_LATER.to_owned(),
        _ => "the service gives an answer that cannot be read; check `endpoint_url`".to_owned(),
    };
    Error::connector(format!("{doing}: {advice} ({why})")).retriable_if(retriable)
}

const TRY_LATER: &str = "the service does not answer as it should, and has been asked again and again; try later";

/// What to do about a code.
fn of_code(code: &str, region: &str, retriable: bool) -> String {
    match code {
        MISSING => {
            return format!(
                "there is nothing of that name in region `{region}`; create it first, or correct the name, the region or `endpoint_url`"
            );
        }
        _ if UNKNOWN.contains(&code) => {
            "the credentials are not taken; check `access_key`, `secret_key` and `session_token`, and the clock of this machine"
        }
        _ if EXPIRED.contains(&code) => {
            "the credentials have expired; get new ones, or let AWS's default chain find some that renew themselves"
        }
        "AccessDenied" | "AccessDeniedException" => "the credentials do not allow it; change the policy of the user or role",
        "ProvisionedThroughputExceededException" => {
            "its throughput is used up; give it more shards, or switch it to on-demand, or let fewer read and write it"
        }
        _ if THROTTLED.contains(&code) => "it has been asked more often than its limits allow; try later",
        _ if code.starts_with("KMS") => "the key that it is encrypted with cannot be used; see that key's state and policy",
        "ResourceInUseException" => "it is being created, changed or used by another; try later",
        _ if retriable => TRY_LATER,
        _ => "the service refuses it",
    }
    .to_owned()
}

/// The service's name for what is wrong, if it has answered.
pub(super) fn code<E: ProvideErrorMetadata, R: 'static>(error: &Failure<E, R>) -> Option<&str> {
    error.code()
}

/// Whether the service was asked too often or for too much.
pub(super) fn is_throttled<E: ProvideErrorMetadata, R: 'static>(error: &Failure<E, R>) -> bool {
    code(error).is_some_and(is_throttle) || status(error) == Some(429)
}

/// Whether a code says so.
pub(super) fn is_throttle(code: &str) -> bool {
    THROTTLED.contains(&code)
}

/// Whether there is no such stream or table.
pub(super) fn is_missing<E: ProvideErrorMetadata, R: 'static>(error: &Failure<E, R>) -> bool {
    code(error) == Some(MISSING)
}

/// Whether those who ask are known, but may not.
pub(super) fn is_forbidden<E: ProvideErrorMetadata, R: 'static>(error: &Failure<E, R>) -> bool {
    code(error).is_some_and(|code| matches!(code, "AccessDenied" | "AccessDeniedException"))
}

/// Whether the cause may go away by itself.
pub(super) fn is_retriable<E: ProvideErrorMetadata, R: 'static>(error: &Failure<E, R>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => false,
        SdkError::TimeoutError(_) => true,
        SdkError::DispatchFailure(failure) => failure.is_io() || failure.is_timeout() || failure.as_other().is_some(),
        // An answer that was cut off, unless its status says that the request is not liked.
        SdkError::ResponseError(_) => status(error).is_none_or(|status| !(400..500).contains(&status) || status == 429),
        _ => {
            is_throttled(error)
                || code(error).is_some_and(|code| PASSING.contains(&code))
                || status(error).is_some_and(|status| status >= 500)
        }
    }
}

/// Whether nobody says what became of the request: it may have been carried out.
pub(super) fn is_unanswered<E: ProvideErrorMetadata, R: 'static>(error: &Failure<E, R>) -> bool {
    match error {
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => true,
        _ => status(error).is_some_and(|status| status >= 500),
    }
}

fn status<E, R: 'static>(error: &Failure<E, R>) -> Option<u16> {
    let answer: &dyn Any = error.raw_response()?;
    answer.downcast_ref::<HttpResponse>().map(|answer| answer.status().as_u16())
}

/// What an error says, in the service's own words if it has any.
fn said<E, R>(error: &Failure<E, R>) -> String
where
    E: ProvideErrorMetadata + StdError + 'static,
    R: Debug + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {}", message.lines().next().unwrap_or_default()),
        (Some(code), None) => code.to_owned(),
        (None, _) => match (status(error), error) {
            (Some(status), _) => format!("status {status}"),
            (None, SdkError::DispatchFailure(failure)) => failure.as_connector_error().map_or_else(|| chain(error), |error| chain(error)),
            (None, _) => chain(error),
        },
    }
}

/// An error and what caused it, on one line.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some repeat what caused them.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Characters of what is taken for a secret: AWS's have 16 or more, and to leave out less would spoil any text.
const SECRET_CHARACTERS: usize = 6;

/// The text without secrets.
pub(super) fn scrubbed(text: &str, secrets: &[String]) -> String {
    secrets
        .iter()
        .filter(|secret| secret.len() >= SECRET_CHARACTERS)
        .fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "…"))
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::config::http::HttpResponse;
    use aws_sdk_kinesis::error::{ConnectorError, ErrorMetadata};
    use aws_sdk_kinesis::operation::put_records::PutRecordsError;

    use super::*;

    /// An answer of the service.
    fn answer(status: u16, code: &str, message: &str) -> Failure<PutRecordsError> {
        let response = HttpResponse::new(status.try_into().expect("a status"), "".into());
        SdkError::service_error(PutRecordsError::generic(ErrorMetadata::builder().code(code).message(message).build()), response)
    }

    #[test]
    fn codes_have_a_remedy() {
        for (status, code, retriable, says) in [
            (400, "ResourceNotFoundException", false, "there is nothing of that name in region `eu-west-1`; create it first"),
            (400, "UnrecognizedClientException", false, "the credentials are not taken"),
            (400, "ExpiredTokenException", false, "the credentials have expired"),
            (400, "AccessDeniedException", false, "the credentials do not allow it"),
            (400, "ProvisionedThroughputExceededException", true, "its throughput is used up"),
            (400, "LimitExceededException", true, "its limits allow"),
            (400, "KMSDisabledException", false, "the key that it is encrypted with"),
            (400, "KMSThrottlingException", true, "its limits allow"),
            (400, "InvalidArgumentException", false, "the service refuses it"),
            (500, "InternalFailure", true, "try later"),
            (503, "Whatever", true, "try later"),
        ] {
            let error = of("cannot write to stream `s`", &answer(status, code, "Why."), "eu-west-1", &[]);
            assert_eq!(error.is_retriable(), retriable, "{error}");
            let text = error.to_string();
            assert!(
                text.starts_with("cannot write to stream `s`: ") && text.contains(says) && text.ends_with(&format!("({code}: Why.)")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_service_that_does_not_answer_may_do_so_later() {
        let refused = || Box::new(std::io::Error::other("connection refused by hunter2"));
        let error: Failure<PutRecordsError> = SdkError::dispatch_failure(ConnectorError::io(refused()));
        let error = of("cannot", &error, "eu-west-1", &["hunter2".to_owned()]);
        assert!(error.is_retriable() && error.to_string().contains("cannot be reached"), "{error}");
        assert!(error.to_string().ends_with("(io error: connection refused by …)"), "{error}");
        let error: Failure<PutRecordsError> = SdkError::timeout_error(refused());
        assert!(is_retriable(&error) && !is_throttled(&error));
    }

    #[test]
    fn a_request_that_the_service_repeats_is_not_passed_on() {
        let message = "The signature we calculated does not match.\n\nThe canonical string should have been\nx-amz-security-token:hunter2";
        let error = of("cannot", &answer(400, "InvalidSignatureException", message), "eu-west-1", &[]).to_string();
        assert!(error.contains("does not match.") && !error.contains("hunter2"), "{error}");
    }
}
