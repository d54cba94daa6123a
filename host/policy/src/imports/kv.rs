//! `kv`: the plugin's own durable store. Grant: kv.

use crate::bindings::HostError;
use crate::bindings::imports::kv::Host;
use crate::guest::Guest;
use crate::kv::{Change, Changed, KvError, Namespace};

type Answer<T> = wasmtime::Result<Result<T, HostError>>;

impl Host for Guest {
    async fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        self.charge()?;
        Ok(self.namespace().and_then(|kv| kv.get(&key).map_err(HostError::from)))
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl: Option<u32>) -> Answer<()> {
        Ok(self.change(key, Change::Set { value, ttl }).await?.map(|_| ()))
    }

    async fn delete(&mut self, key: String) -> Answer<bool> {
        Ok(self.change(key, Change::Delete).await?.map(|changed| changed == Changed::Yes(true)))
    }

    async fn increment(&mut self, key: String, delta: i64, ttl: Option<u32>) -> Answer<i64> {
        Ok(self.change(key, Change::Increment { delta, ttl }).await?.map(|changed| match changed {
            Changed::Sum(sum) => sum,
            Changed::Yes(_) => 0,
        }))
    }

    async fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl: Option<u32>,
    ) -> Answer<bool> {
        let change = Change::CompareAndSet { expected, value, ttl };
        Ok(self.change(key, change).await?.map(|changed| changed == Changed::Yes(true)))
    }
}

impl Guest {
    fn namespace(&self) -> Result<&Namespace, HostError> {
        self.core.kv.as_ref().ok_or_else(|| HostError::Denied("kv".into()))
    }

    async fn change(&mut self, key: String, change: Change) -> Answer<Changed> {
        self.charge()?;
        let namespace = match self.namespace() {
            Ok(namespace) => namespace.clone(),
            Err(error) => return Ok(Err(error)),
        };
        Ok(Self::wait(&mut self.meter, namespace.change(key, change))
            .await?
            .map_err(HostError::from))
    }
}

impl From<KvError> for HostError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Quota(text) => Self::Quota(text),
            KvError::Invalid(text) => Self::Invalid(text),
            KvError::Unavailable(text) => Self::Unavailable(text),
        }
    }
}
