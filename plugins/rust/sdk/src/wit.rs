//! The bindings to `wit/`, one set for each stage.
//!
//! The host looks at what a component exports and asks it at no other stage. So every stage is a
//! world of its own here, and [`export!`](crate::export!) links those that a plugin names: the
//! component describes and exports nothing else. All of them share the types of [`imports`].

/// What every plugin may import, and the types that all stages share.
pub mod imports {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "imports",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
    });
}

/// The exported interface `configure`.
pub mod configure {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "package gatepost:sdk-configure; world configure { export gatepost:policy/configure@0.1.0; }",
        pub_export_macro: true,
    });
}

macro_rules! stage {
    ($module:ident, $world:literal) => {
        #[doc = concat!("The exported interface `", stringify!($module), "`.")]
        pub mod $module {
            wit_bindgen::generate!({
                path: "../../../wit",
                inline: $world,
                with: {
                    "gatepost:policy/types@0.1.0": crate::wit::imports::gatepost::policy::types,
                    "gatepost:policy/authentication@0.1.0": crate::wit::imports::gatepost::policy::authentication,
                    "gatepost:policy/message@0.1.0": crate::wit::imports::gatepost::policy::message,
                },
                additional_derives: [PartialEq, Eq],
                pub_export_macro: true,
            });
            pub use exports::gatepost::policy::$module::*;
        }
    };
}

stage!(
    on_connect,
    "package gatepost:sdk-connect; world stage-connect { export gatepost:policy/on-connect@0.1.0; }"
);
stage!(
    on_helo,
    "package gatepost:sdk-helo; world stage-helo { export gatepost:policy/on-helo@0.1.0; }"
);
stage!(
    on_auth,
    "package gatepost:sdk-auth; world stage-auth { export gatepost:policy/on-auth@0.1.0; }"
);
stage!(
    on_mail,
    "package gatepost:sdk-mail; world stage-mail { export gatepost:policy/on-mail@0.1.0; }"
);
stage!(
    on_rcpt,
    "package gatepost:sdk-rcpt; world stage-rcpt { export gatepost:policy/on-rcpt@0.1.0; }"
);
stage!(
    on_data,
    "package gatepost:sdk-data; world stage-data { export gatepost:policy/on-data@0.1.0; }"
);
stage!(
    on_route,
    "package gatepost:sdk-route; world stage-route { export gatepost:policy/on-route@0.1.0; }"
);
stage!(
    on_deliver,
    "package gatepost:sdk-deliver; world stage-deliver { export gatepost:policy/on-deliver@0.1.0; }"
);
stage!(
    on_outcome,
    "package gatepost:sdk-outcome; world stage-outcome { export gatepost:policy/on-outcome@0.1.0; }"
);
stage!(
    on_dsn,
    "package gatepost:sdk-dsn; world stage-dsn { export gatepost:policy/on-dsn@0.1.0; }"
);
stage!(
    on_disconnect,
    "package gatepost:sdk-disconnect; world stage-disconnect { export gatepost:policy/on-disconnect@0.1.0; }"
);
