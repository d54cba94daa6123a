//! `http`: questions to services over HTTP, through the seam. Grant: http, by host.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::bindings::imports::http::{Host, Request, Response};
use crate::bindings::{ContentHandle, HostError};
use crate::content::ContentView;
use crate::guest::Guest;
use crate::seam::{Answer, Question, unfit};

type Reply = wasmtime::Result<Result<Response, HostError>>;

impl Host for Guest {
    async fn send(&mut self, request: Request) -> Reply {
        self.fetch(request, None).await
    }

    async fn send_content(&mut self, request: Request, _: Resource<ContentHandle>) -> Reply {
        let content = self.content()?.clone();
        self.fetch(request, Some(content)).await
    }
}

impl Guest {
    async fn fetch(&mut self, request: Request, content: Option<Arc<ContentView>>) -> Reply {
        self.charge()?;
        if self.core.grants.http.is_empty() {
            return Ok(Err(HostError::Denied("http".into())));
        }
        let Request { method, url, headers, body, timeout_milliseconds } = request;
        let octets = content.as_ref().map(|content| content.octets.len());
        let question =
            Question::Http { method, url, headers, body, content: octets, timeout_milliseconds };
        let mut asker = self.asker();
        asker.content = content;
        Ok(match self.ask_later_as(&asker, question).await? {
            Ok(Answer::Response { status, headers, body }) => {
                Ok(Response { status, headers, body })
            }
            Ok(_) => Err(unfit()),
            Err(error) => Err(error),
        })
    }
}
