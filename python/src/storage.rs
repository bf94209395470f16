//! Object stores: how to reach them.

use pyo3::prelude::*;
use thalweg::Error;
use thalweg::connector::s3::S3;

use crate::error::raise;
use crate::kafka::Settings;

/// Settings by name.
pub struct StorageOptions(Settings);

impl FromPyObject<'_, '_> for StorageOptions {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<StorageOptions> {
        Ok(StorageOptions(value.extract()?))
    }
}

impl StorageOptions {
    /// The store that `url` is in, reached by these settings; `None` if it is a path of this machine.
    pub fn store(url: &str, options: Option<StorageOptions>) -> PyResult<Option<S3>> {
        match (S3::is_url(url), options) {
            (true, options) => {
                let settings = options.map(|StorageOptions(Settings(settings))| settings).unwrap_or_default();
                Ok(Some(settings.into_iter().fold(S3::new(url), |store, (name, value)| store.set(name, value))))
            }
            (false, None) => Ok(None),
            (false, Some(_)) => Err(raise(Error::config("`storage_options` are of object stores; the path must begin with s3://"))),
        }
    }
}
