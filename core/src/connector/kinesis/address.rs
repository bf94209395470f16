//! Which stream is meant: its name, for one of the account that asks, or its ARN, for one of any.
//!
//! Source: the Kinesis Data Streams API reference, whose `StreamARN` is `arn:aws.*:kinesis:.*:\d{12}:stream/\S+` and whose `StreamName` is
//! 1 to 128 of `[a-zA-Z0-9_.-]`.

use std::fmt;

use super::settings::Settings;
use crate::error::{Error, Result};

/// The most characters of a stream's name.
const MAX_NAME: usize = 128;

/// A stream's name or ARN, as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address(String);

impl Address {
    pub(super) fn new(given: impl Into<String>) -> Address {
        Address(given.into())
    }

    /// The name, if that was given. Requests take either this or the ARN.
    pub(super) fn name(&self) -> Option<String> {
        (!self.is_arn()).then(|| self.0.clone())
    }

    /// The ARN, if that was given.
    pub(super) fn arn(&self) -> Option<String> {
        self.is_arn().then(|| self.0.clone())
    }

    /// The name, whichever was given.
    pub(super) fn stream(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// No name has a colon.
    fn is_arn(&self) -> bool {
        self.0.contains(':')
    }

    /// Settings with the region that the ARN names, if there is one.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if the ARN is none of a stream, or the settings name another region.
    pub(super) fn locate(&self, settings: &Settings) -> Result<Settings> {
        let mut settings = settings.clone();
        if !self.is_arn() {
            return Ok(settings);
        }
        let arn = &self.0;
        let region = region(arn).ok_or_else(|| {
            Error::config(format!("{arn:?} is not the ARN of a stream of Kinesis, which is arn:aws:kinesis:REGION:ACCOUNT:stream/NAME"))
        })?;
        match settings.value("region")? {
            Some(given) if given != region => {
                Err(Error::config(format!("`region` is {given}, and stream `{arn}` is in {region}; leave `region` away")))
            }
            _ => {
                settings.set("region", region);
                Ok(settings)
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The region of a stream's ARN; `None` if it is none.
fn region(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.split(':').collect();
    let [scheme, partition, service, region, account, resource] = parts[..] else { return None };
    let name = resource.strip_prefix("stream/")?;
    let is_name = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    let is_region = !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let is_stream = scheme == "arn" && partition.starts_with("aws") && service == "kinesis";
    (is_stream && is_region && is_account && is_name).then_some(region)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kinesis:eu-west-1:123456789012:stream/payments";

    #[test]
    fn requests_take_a_name_or_an_arn() {
        let [name, arn] = ["payments", ARN].map(Address::new);
        assert_eq!((name.name().as_deref(), name.arn()), (Some("payments"), None));
        assert_eq!((arn.name(), arn.arn().as_deref()), (None, Some(ARN)));
        assert_eq!(arn.to_string(), ARN);
        assert_eq!([name.stream(), arn.stream()], ["payments"; 2]);
    }

    #[test]
    fn the_region_is_that_of_the_arn() {
        let region = |address: &str, given: Option<&str>| {
            let mut settings = Settings::default();
            given.into_iter().for_each(|region| settings.set("region", region));
            Address::new(address).locate(&settings).and_then(|settings| settings.value("region"))
        };
        assert_eq!(region("payments", None).unwrap(), None);
        assert_eq!(region("payments", Some("us-east-1")).unwrap().as_deref(), Some("us-east-1"));
        assert_eq!(region(ARN, None).unwrap().as_deref(), Some("eu-west-1"));
        assert_eq!(region(ARN, Some("eu-west-1")).unwrap().as_deref(), Some("eu-west-1"));
        let china = "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/a_b.c-d";
        assert_eq!(region(china, None).unwrap().as_deref(), Some("cn-north-1"));
        let error = region(ARN, Some("us-east-1")).unwrap_err().to_string();
        assert!(error.contains("`region` is us-east-1") && error.contains("is in eu-west-1; leave `region` away"), "{error}");
    }

    #[test]
    fn what_is_no_arn_of_a_stream_is_refused() {
        for wrong in [
            "arn:aws:kinesis:eu-west-1:123456789012:stream",
            "arn:aws:kinesis:eu-west-1:123456789012:stream/",
            "arn:aws:kinesis:eu-west-1:123456789012:stream/payments/consumer/a:1",
            "arn:aws:kinesis:eu-west-1:123456789012:stream/payments/consumer",
            "arn:aws:kinesis:eu-west-1:12345678901:stream/payments",
            "arn:aws:kinesis::123456789012:stream/payments",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/payments",
            "arn:gcp:kinesis:eu-west-1:123456789012:stream/payments",
            "eu-west-1:payments",
        ] {
            let error = Address::new(wrong).locate(&Settings::default()).map(drop).unwrap_err().to_string();
            assert!(error.contains("is not the ARN of a stream of Kinesis") && error.contains(wrong), "{error}");
        }
    }
}
