//! `kv`: the plugin's own durable store, through the seam. Grant: kv.

use crate::bindings::HostError;
use crate::bindings::imports::kv::Host;
use crate::guest::Guest;
use crate::seam::{Answer, Question, unfit};

type Reply<T> = wasmtime::Result<Result<T, HostError>>;

impl Host for Guest {
    async fn get(&mut self, key: String) -> Reply<Option<Vec<u8>>> {
        Ok(match self.read(Question::KvGet { key })? {
            Ok(Answer::Value(value)) => Ok(value),
            Ok(_) => Err(unfit()),
            Err(error) => Err(error),
        })
    }

    async fn keys(&mut self, prefix: String, after: Option<String>) -> Reply<Vec<String>> {
        Ok(match self.read(Question::KvKeys { prefix, after })? {
            Ok(Answer::Names(keys)) => Ok(keys),
            Ok(_) => Err(unfit()),
            Err(error) => Err(error),
        })
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl: Option<u32>) -> Reply<()> {
        Ok(self.flag(Question::KvSet { key, value, ttl }).await?.map(|_| ()))
    }

    async fn delete(&mut self, key: String) -> Reply<bool> {
        self.flag(Question::KvDelete { key }).await
    }

    async fn increment(&mut self, key: String, delta: i64, ttl: Option<u32>) -> Reply<i64> {
        Ok(match self.write(Question::KvIncrement { key, delta, ttl }).await? {
            Ok(Answer::Sum(sum)) => Ok(sum),
            Ok(_) => Err(unfit()),
            Err(error) => Err(error),
        })
    }

    async fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl: Option<u32>,
    ) -> Reply<bool> {
        self.flag(Question::KvCompareAndSet { key, expected, value, ttl }).await
    }
}

impl Guest {
    fn read(&mut self, question: Question) -> Reply<Answer> {
        self.charge()?;
        Ok(if self.core.grants.kv { self.ask(question) } else { Err(denied()) })
    }

    async fn write(&mut self, question: Question) -> Reply<Answer> {
        self.charge()?;
        if !self.core.grants.kv {
            return Ok(Err(denied()));
        }
        self.ask_later(question).await
    }

    async fn flag(&mut self, question: Question) -> Reply<bool> {
        Ok(match self.write(question).await? {
            Ok(Answer::Flag(flag)) => Ok(flag),
            Ok(_) => Err(unfit()),
            Err(error) => Err(error),
        })
    }
}

fn denied() -> HostError {
    HostError::Denied("kv".into())
}
