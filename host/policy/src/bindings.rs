//! Generated from `wit/`: the types and the linking of the contract.

#![expect(unreachable_pub, reason = "generated code names these types in public places")]

/// What a `borrow<session>` stands for: the connection of the call under way.
pub enum SessionHandle {}
/// What a `borrow<transaction>` stands for: the transaction of the call under way.
pub enum TransactionHandle {}
/// What a `borrow<content>` stands for: the content of the call under way.
pub enum ContentHandle {}

mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "plugin",
        imports: {
            // What may wait. All else answers at once, without leaving the guest's stack.
            "gatepost:policy/dns": async | trappable,
            "gatepost:policy/http": async | trappable,
            "gatepost:policy/kv": async | trappable,
            "gatepost:policy/message.[method]content.parts": async | trappable,
            "gatepost:policy/message.[method]content.read-part": async | trappable,
            "gatepost:policy/message.[method]content.part-place": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        with: {
            "gatepost:policy/message.session": super::SessionHandle,
            "gatepost:policy/message.transaction": super::TransactionHandle,
            "gatepost:policy/message.content": super::ContentHandle,
        },
    });
}

pub(crate) use generated::exports::gatepost::policy as stages;
pub(crate) use generated::gatepost::policy as imports;
pub(crate) use imports::types::{self, HostError};
