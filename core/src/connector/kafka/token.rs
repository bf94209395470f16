//! Tokens that users' functions make, for brokers that ask for OAUTHBEARER (RFC 7628).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::client::OAuthToken;

use crate::error::{Error, Result};
use crate::time::SystemClock;

/// What shows a cluster who a client is, for a while: a bearer token of an identity provider. Its value is never shown.
#[derive(Clone)]
pub struct Token {
    value: String,
    expires_at: i64,
    principal: String,
}

impl Token {
    /// A token of the text `value`, which expires at `expires_at` in milliseconds since the Unix epoch. The next is made when four
    /// fifths of the time until then have passed.
    pub fn new(value: impl Into<String>, expires_at: i64) -> Token {
        Token { value: value.into(), expires_at, principal: String::new() }
    }

    /// The name of who it is for, which stands in what is said of it; brokers go by the token itself.
    pub fn principal(mut self, name: impl Into<String>) -> Token {
        self.principal = name.into();
        self
    }

    /// The token as librdkafka takes it. It would put a value that it does not take into its message, so that values are looked at here.
    fn checked(self, now: i64) -> Result<OAuthToken> {
        if self.value.is_empty() || !self.value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::connector(
                "it is empty or has characters that no bearer token has (RFC 6750), such as a line end: give the token alone",
            ));
        }
        if self.principal.contains('\0') {
            return Err(Error::connector("its principal has a zero byte; give a name"));
        }
        if self.expires_at <= now {
            return Err(Error::connector(format!(
                "it has expired: it was good until {}, and it is {now} (in milliseconds since 1970); give one that is still good",
                self.expires_at
            )));
        }
        // librdkafka counts microseconds in as many bits.
        let lifetime_ms = self.expires_at.min(i64::MAX / 2_000);
        Ok(OAuthToken { token: self.value, principal_name: self.principal, lifetime_ms })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("principal", &self.principal).field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// The function that makes tokens. The thread that polls the client calls it.
#[derive(Clone)]
pub(super) struct Tokens(Arc<dyn Fn() -> Result<Token> + Send + Sync>);

impl Tokens {
    pub(super) fn new(make: impl Fn() -> Result<Token> + Send + Sync + 'static) -> Tokens {
        Tokens(Arc::new(make))
    }

    /// The next token.
    ///
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector) if the function fails or gives what is no token; retriable if its error is.
    pub(super) fn make(&self) -> Result<OAuthToken> {
        let now = SystemClock::shared().wall() / 1_000_000;
        // A panic may hold what the function was busy with, which is a secret.
        let made = catch_unwind(AssertUnwindSafe(|| (self.0)())).unwrap_or_else(|_| Err(Error::connector("the function panicked")));
        made.map_err(|error| {
            let retriable = error.is_retriable();
            Error::connector("no token could be made").with_source(error).retriable_if(retriable)
        })?
        .checked(now)
        .map_err(|error| error.context("what was given as a token cannot be used"))
    }
}

/// Checks a client's settings against where its tokens come from, and fills in what that leaves open.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) if tokens are needed and nothing makes them, or the other way about.
pub(super) fn fit(config: &mut ClientConfig, tokens: Option<&Tokens>) -> Result<()> {
    let mechanism = config.get("sasl.mechanisms").or_else(|| config.get("sasl.mechanism")).map(str::to_owned);
    let protocol = config.get("security.protocol").map(str::to_owned);
    let by_tokens = mechanism.as_ref().map(|name| name.eq_ignore_ascii_case("OAUTHBEARER"));
    let over_sasl = protocol.as_ref().map(|name| name.to_ascii_lowercase().starts_with("sasl_"));
    if tokens.is_some() {
        if by_tokens == Some(false) || over_sasl == Some(false) {
            return Err(Error::config(
                "a function makes tokens, and the settings would not use them: let `sasl.mechanisms` be OAUTHBEARER and \
                 `security.protocol` sasl_ssl, which they are if left out, or sasl_plaintext",
            ));
        }
        if mechanism.is_none() {
            config.set("sasl.mechanisms", "OAUTHBEARER");
        }
        if protocol.is_none() {
            config.set("security.protocol", "sasl_ssl");
        }
    } else if by_tokens == Some(true) && over_sasl == Some(true) && config.get("enable.sasl.oauthbearer.unsecure.jwt") != Some("true") {
        return Err(Error::config(format!("OAUTHBEARER is set, and nothing makes tokens; {INSTEAD}")));
    }
    Ok(())
}

/// What to do about tokens.
const INSTEAD: &str = "give a function that does (`oauth_token`, in Python `oauth`)";

/// What is wrong with a setting that asks librdkafka to fetch tokens, which takes a part of it that is not built in; `None` if it is none.
pub(super) fn fetches(name: &str) -> Option<Error> {
    (name.strip_prefix("sasl.oauthbearer.")? != "config").then(|| {
        Error::config(format!("Kafka's setting `{name}`: tokens are not fetched by settings (OIDC) here; {INSTEAD}, see docs/kafka.md"))
    })
}

/// Why a token that librdkafka has made by itself is not followed by another.
pub(super) fn unsecured() -> Error {
    Error::connector(format!("an unsecured token is made once, at the beginning, for trying things out; for longer, {INSTEAD}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const SECRET: &str = "hunter2";

    #[test]
    fn what_is_no_token_is_refused_and_not_shown() {
        for (token, says) in [
            (Token::new("", i64::MAX), "it is empty"),
            (Token::new(format!("{SECRET}\n"), i64::MAX), "such as a line end"),
            (Token::new(format!("{SECRET}\u{e9}"), i64::MAX), "characters that no bearer token has"),
            (Token::new(SECRET, i64::MAX).principal("a\0b"), "zero byte"),
            (Token::new(SECRET, 1_700_000_000), "it has expired: it was good until 1700000000"),
        ] {
            let shown = format!("{token:?}");
            let error = Tokens::new(move || Ok(token.clone())).make().err().unwrap();
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!((error.kind(), error.is_retriable()), (Kind::Connector, false));
            assert!(!format!("{error} {error:?} {shown}").contains(SECRET), "{error:?}");
        }
        let token = Token::new(SECRET, i64::MAX).principal("alice").checked(0).unwrap();
        assert_eq!((token.token.as_str(), token.principal_name.as_str()), (SECRET, "alice"));
        assert!(token.lifetime_ms.checked_mul(1_000).is_some());
    }

    #[test]
    fn a_function_that_fails_says_why_and_one_that_panics_does_not() {
        for retriable in [false, true] {
            let fails = Tokens::new(move || Err(Error::connector("the provider is asleep").retriable_if(retriable)));
            let error = fails.make().err().unwrap();
            assert_eq!(error.to_string(), "no token could be made: the provider is asleep");
            assert_eq!((error.kind(), error.is_retriable()), (Kind::Connector, retriable));
        }
        let error = Tokens::new(|| panic!("{SECRET}")).make().err().unwrap();
        assert_eq!(error.to_string(), "no token could be made: the function panicked");
    }

    #[test]
    fn settings_fit_where_tokens_come_from() {
        let tokens = Tokens::new(|| Ok(Token::new(SECRET, i64::MAX)));
        let fitted = |values: &[(&str, &str)], with: bool| {
            let mut config = ClientConfig::new();
            values.iter().for_each(|(name, value)| {
                config.set(*name, *value);
            });
            fit(&mut config, with.then_some(&tokens)).map(|()| config)
        };
        let filled = fitted(&[], true).unwrap();
        assert_eq!((filled.get("sasl.mechanisms"), filled.get("security.protocol")), (Some("OAUTHBEARER"), Some("sasl_ssl")));
        let kept = fitted(&[("sasl.mechanism", "oauthbearer"), ("security.protocol", "SASL_PLAINTEXT")], true).unwrap();
        assert_eq!((kept.get("sasl.mechanisms"), kept.get("security.protocol")), (None, Some("SASL_PLAINTEXT")));
        for values in [("sasl.mechanisms", "PLAIN"), ("security.protocol", "ssl")] {
            assert!(fitted(&[values], true).err().unwrap().to_string().contains("would not use them"));
        }
        let bare = [("sasl.mechanisms", "OAUTHBEARER"), ("security.protocol", "sasl_ssl")];
        assert!(fitted(&bare, false).err().unwrap().to_string().contains("nothing makes tokens; give a function that does"));
        assert!(fitted(&[&bare[..], &[("enable.sasl.oauthbearer.unsecure.jwt", "true")]].concat(), false).is_ok());
        assert!(fitted(&[], false).unwrap().get("sasl.mechanisms").is_none());
    }
}
