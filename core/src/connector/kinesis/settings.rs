//! Settings by name: where the services are, who asks them and how patiently.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::config::given;
use crate::error::{Error, Result};
use crate::time::parse_duration;

/// The settings of every connection.
const NAMES: &[&str] = &[
    "region",
    "endpoint_url",
    "dynamodb_endpoint_url",
    "access_key",
    "secret_key",
    "session_token",
    "profile",
    "allow_http",
    "max_attempts",
    "timeout",
];

/// How often a request is sent in all, by default: what AWS's own clients do.
const MAX_ATTEMPTS: u32 = 3;

/// How long a request may take, by default.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What was set by name. What values hold is never shown, as any may be a secret.
#[derive(Clone, Default)]
pub(super) struct Settings {
    values: BTreeMap<String, String>,
}

/// Keys that are set, rather than found by AWS's chain.
pub(super) struct Keys {
    pub(super) access_key: String,
    pub(super) secret_key: String,
    pub(super) session_token: Option<String>,
}

impl Settings {
    pub(super) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values.insert(name.into(), value.into());
    }

    /// Checks that every name is known to connections, or is one of `more`.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config), with the names there are.
    pub(super) fn check(&self, more: &[&str]) -> Result<()> {
        let known = || NAMES.iter().chain(more);
        match self.values.keys().find(|name| !known().any(|known| known == name)) {
            None => Ok(()),
            Some(name) => {
                let names: Vec<&str> = known().copied().collect();
                Err(Error::config(format!("Kinesis has no setting `{name}`; there are {}", names.join(", "))))
            }
        }
    }

    /// A setting, with the secret looked up that it stands for.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if the secret cannot be had.
    pub(super) fn value(&self, name: &str) -> Result<Option<String>> {
        let value = self.values.get(name).map(|value| given(value)).transpose();
        value.map_err(|error| error.context(format!("Kinesis' setting `{name}`")))
    }

    /// A setting that is a duration, such as `30s`.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if it is none.
    pub(super) fn duration(&self, name: &str, default: Duration) -> Result<Duration> {
        let parse = |text: &str| parse_duration(text).ok().filter(|duration| !duration.is_zero());
        Ok(self.parsed(name, parse, "a duration above zero, such as `30s`")?.unwrap_or(default))
    }

    /// A setting that `parse` reads.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if it is not `what`.
    pub(super) fn parsed<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>, what: &str) -> Result<Option<T>> {
        let Some(value) = self.value(name)? else { return Ok(None) };
        parse(&value).map(Some).ok_or_else(|| Error::config(format!("Kinesis' setting `{name}` is not {what}")))
    }

    /// How often a request is sent in all, and how long each may take.
    pub(super) fn patience(&self) -> Result<(u32, Duration)> {
        let parse = |text: &str| text.parse().ok().filter(|attempts| *attempts > 0);
        let attempts = self.parsed("max_attempts", parse, "a number above zero")?.unwrap_or(MAX_ATTEMPTS);
        Ok((attempts, self.duration("timeout", TIMEOUT)?))
    }

    /// Whether requests may be sent unencrypted.
    pub(super) fn allow_http(&self) -> Result<bool> {
        let parse = |text: &str| match text {
            "true" | "True" => Some(true),
            "false" | "False" => Some(false),
            _ => None,
        };
        Ok(self.parsed("allow_http", parse, "true or false")?.unwrap_or(false))
    }

    /// Where Kinesis answers, and where DynamoDB does, if not at AWS.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if these are not URLs, or would send requests unencrypted though nobody said so.
    pub(super) fn endpoints(&self) -> Result<(Option<String>, Option<String>)> {
        let kinesis = self.endpoint("endpoint_url")?;
        let dynamodb = self.endpoint("dynamodb_endpoint_url")?.or_else(|| kinesis.clone());
        Ok((kinesis, dynamodb))
    }

    fn endpoint(&self, name: &str) -> Result<Option<String>> {
        let Some(url) = self.value(name)? else { return Ok(None) };
        // The value is not shown, as it may hold a password.
        let wrong = |what: &str| Error::config(format!("Kinesis' setting `{name}` {what}"));
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        match scheme {
            _ if rest.contains('@') => {
                Err(wrong("holds user or password, which URLs do not keep secret; set `access_key` and `secret_key`"))
            }
            "http" if !self.allow_http()? => Err(wrong("is not encrypted; use https, or set `allow_http` to true")),
            "http" | "https" if !rest.is_empty() => Ok(Some(url)),
            _ => Err(wrong("is not a URL that begins with `https://` or `http://`")),
        }
    }

    /// The keys that are set. They come whole: a token of the environment does not go with keys from elsewhere.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if one is missing or they contradict a `profile`.
    pub(super) fn keys(&self) -> Result<Option<Keys>> {
        match (self.value("access_key")?, self.value("secret_key")?, self.value("session_token")?) {
            (Some(_), Some(_), _) if self.values.contains_key("profile") => {
                Err(Error::config("`access_key` and `profile` both say who asks Kinesis; set one of them"))
            }
            (Some(access_key), Some(secret_key), session_token) => Ok(Some(Keys { access_key, secret_key, session_token })),
            (None, None, None) => Ok(None),
            _ => Err(Error::config("`access_key` and `secret_key` go together, with a `session_token` or without; or set none of them")),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("names", &self.values.keys()).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn settings(values: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        values.iter().for_each(|(name, value)| settings.set(*name, *value));
        settings
    }

    #[test]
    fn what_is_wrong_is_named_and_its_value_is_not() {
        type Look = fn(&Settings) -> Result<()>;
        let endpoints: Look = |settings| settings.endpoints().map(drop);
        let patience: Look = |settings| settings.patience().map(drop);
        let keys: Look = |settings| settings.keys().map(drop);
        for (values, look, says) in [
            (&[("no_such", "hunter2")][..], (|settings| settings.check(&["delivery_timeout"])) as Look, "no setting `no_such`"),
            (&[("endpoint_url", "hunter2")], endpoints, "`endpoint_url` is not a URL"),
            (&[("endpoint_url", "http://hunter2")], endpoints, "is not encrypted; use https, or set `allow_http`"),
            (&[("endpoint_url", "https://user:hunter2@host")], endpoints, "holds user or password"),
            (&[("dynamodb_endpoint_url", "ftp://hunter2")], endpoints, "`dynamodb_endpoint_url` is not a URL"),
            (&[("endpoint_url", "http://h"), ("allow_http", "hunter2")], endpoints, "`allow_http` is not true or false"),
            (&[("max_attempts", "0")], patience, "`max_attempts` is not a number above zero"),
            (&[("timeout", "hunter2")], patience, "`timeout` is not a duration"),
            (&[("timeout", "0s")], patience, "`timeout` is not a duration"),
            (&[("access_key", "hunter2")], keys, "go together"),
            (&[("access_key", "a"), ("secret_key", "hunter2"), ("profile", "p")], keys, "set one of them"),
            (&[("access_key", "env:THALWEG_NO_SUCH_VARIABLE")], keys, "`THALWEG_NO_SUCH_VARIABLE`"),
        ] {
            let error = look(&settings(values)).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Config);
            assert!(error.to_string().contains(says), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn what_is_not_set_has_a_default() {
        let none = Settings::default();
        none.check(&[]).unwrap();
        assert_eq!(none.patience().unwrap(), (3, Duration::from_secs(30)));
        assert_eq!(none.endpoints().unwrap(), (None, None));
        assert!(none.keys().unwrap().is_none() && none.value("region").unwrap().is_none());
        let all = settings(&[("endpoint_url", "http://k:1"), ("allow_http", "true"), ("max_attempts", "1"), ("timeout", "1500ms")]);
        assert_eq!(all.endpoints().unwrap(), (Some("http://k:1".to_owned()), Some("http://k:1".to_owned())));
        assert_eq!(all.patience().unwrap(), (1, Duration::from_millis(1500)));
    }

    #[test]
    fn values_are_never_shown() {
        assert_eq!(format!("{:?}", settings(&[("secret_key", "hunter2")])), r#"Settings { names: ["secret_key"] }"#);
    }
}
