//! Clients of Kinesis and DynamoDB with the runtime that their requests run on.

use std::fmt::Debug;
use std::future::Future;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kinesis::config::{Credentials, ProvideCredentials, SharedCredentialsProvider, SharedHttpClient};
use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder as HttpBuilder, Connector};
use tokio::runtime::{Builder, Handle, Runtime};

use super::failure::{self, Failure};
use super::settings::Settings;
use crate::error::{Error, Result};

/// A connection to the services of one region.
pub(super) struct Session {
    pub(super) kinesis: aws_sdk_kinesis::Client,
    pub(super) dynamodb: aws_sdk_dynamodb::Client,
    region: String,
    /// What must not be shown if a service repeats it.
    secrets: Vec<String>,
    /// Taken when this is dropped.
    runtime: Option<Runtime>,
}

impl Session {
    /// Finds region and credentials, by what is set and else by AWS's default chain: environment, profile, web identity, container, machine.
    /// No service is asked yet, save those that hand out credentials.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if settings are wrong, there is no region or there are no credentials, or inside an
    /// asynchronous runtime.
    pub(super) fn connect(settings: &Settings) -> Result<Session> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::io("cannot make a runtime for requests to AWS", error))?;
        // From here on the runtime ends in the background, be it by an error.
        let found = waited(&runtime, find(settings));
        match found.and_then(|found| found) {
            Ok((kinesis, dynamodb, region, secrets)) => Ok(Session { kinesis, dynamodb, region, secrets, runtime: Some(runtime) }),
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Runs requests on this thread until `work` is done.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) inside an asynchronous runtime, which may not be kept waiting.
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        match &self.runtime {
            Some(runtime) => waited(runtime, work),
            None => Err(closed()),
        }
    }

    /// The error of a request: what was being done, such as "cannot read stream `payments`".
    pub(super) fn failed<E, R>(&self, doing: &str, error: &Failure<E, R>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: Debug + 'static,
    {
        failure::of(doing, error, &self.region, &self.secrets)
    }

    /// What a service says, less what must not be shown.
    pub(super) fn scrubbed(&self, text: &str) -> String {
        failure::scrubbed(text, &self.secrets)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Waiting for its threads would not be allowed inside another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn closed() -> Error {
    Error::state("the connection to AWS is closed")
}

fn waited<T>(runtime: &Runtime, work: impl Future<Output = T>) -> Result<T> {
    match Handle::try_current() {
        Err(_) => Ok(runtime.block_on(work)),
        Ok(_) => Err(Error::config(
            "Kinesis is not waited for inside an asynchronous runtime; run this on a thread of its own, for example by `spawn_blocking`",
        )),
    }
}

type Found = (aws_sdk_kinesis::Client, aws_sdk_dynamodb::Client, String, Vec<String>);

async fn find(settings: &Settings) -> Result<Found> {
    let (kinesis_url, dynamodb_url) = settings.endpoints()?;
    let config = config(settings).await?;
    let region = config
        .region()
        .map(|region| region.as_ref().to_owned())
        .ok_or_else(|| Error::config("no AWS region is known; set `region`, or AWS_REGION, or the region of a profile in ~/.aws/config"))?;
    if kinesis_url.is_none() && !settings.allow_http()? && config.endpoint_url().is_some_and(|url| url.starts_with("http://")) {
        return Err(Error::config("the endpoint that the environment or the profile names is not encrypted; set `allow_http` to true"));
    }
    let secrets = secrets(&config, settings.value("profile")?.is_some()).await?;
    let mut kinesis = aws_sdk_kinesis::config::Builder::from(&config);
    let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(&config);
    if let Some(url) = kinesis_url {
        kinesis = kinesis.endpoint_url(url);
    }
    if let Some(url) = dynamodb_url {
        dynamodb = dynamodb.endpoint_url(url);
    }
    let kinesis = aws_sdk_kinesis::Client::from_conf(kinesis.build());
    let dynamodb = aws_sdk_dynamodb::Client::from_conf(dynamodb.build());
    Ok((kinesis, dynamodb, region, secrets))
}

/// What the settings say, completed by the environment and the profiles.
async fn config(settings: &Settings) -> Result<SdkConfig> {
    let (attempts, timeout) = settings.patience()?;
    let http = http();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .retry_config(RetryConfig::standard().with_max_attempts(attempts))
        .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(timeout).build());
    if let Some(region) = settings.value("region")? {
        loader = loader.region(Region::new(region));
    }
    if let Some(keys) = settings.keys()? {
        loader = loader.credentials_provider(Credentials::new(keys.access_key, keys.secret_key, keys.session_token, None, "settings"));
    }
    let Some(profile) = settings.value("profile")? else { return Ok(loader.load().await) };
    let config = loader.profile_name(&profile).load().await;
    // In the chain the environment comes before the profile, even one that is named.
    let source = ProviderConfig::without_region().with_http_client(http).with_region(config.region().cloned());
    let credentials = ProfileFileCredentialsProvider::builder().profile_name(profile).configure(&source).build();
    Ok(config.into_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build())
}

/// HTTP by the TLS that object stores have too, with the machine's certificates, through the proxy that the environment names.
fn http() -> SharedHttpClient {
    HttpBuilder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring)).proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.build()
    })
}

/// What must not be shown of the credentials that are found.
///
/// # Errors
/// If there are none: better said now than with the first request.
async fn secrets(config: &SdkConfig, of_profile: bool) -> Result<Vec<String>> {
    let nobody = match of_profile {
        true => "the `profile` that is set gives no AWS credentials; see that it is in ~/.aws/config or ~/.aws/credentials, and has some",
        false => {
            "no AWS credentials can be had; set `access_key` and `secret_key` or a `profile`, set AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY, log in by AWS's command line, or give the machine a role"
        }
    };
    let provider = config.credentials_provider().ok_or_else(|| Error::config(nobody))?;
    let found = provider.provide_credentials().await;
    let found = found.map_err(|error| Error::config(format!("{nobody} ({})", failure::chain(&error))))?;
    let all = [Some(found.access_key_id()), Some(found.secret_access_key()), found.session_token()];
    Ok(all.into_iter().flatten().map(str::to_owned).collect())
}
