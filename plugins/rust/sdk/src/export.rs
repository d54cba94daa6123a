//! How a [`Plugin`](crate::Plugin) becomes a component.

/// Makes a component of a [`Plugin`](crate::Plugin): the type, and the stages at which the host is to ask it.
///
/// The stages are `connect`, `helo`, `auth`, `mail`, `rcpt`, `data`, `route`, `deliver`, `outcome`,
/// `dsn` and `disconnect`. Name, version
/// and description are those of the crate. On targets other than WebAssembly nothing is exported,
/// and the crate is an ordinary library to test.
///
/// ```
/// # use gatepost_plugin::{Error, Host, Plugin};
/// struct Silent;
///
/// impl Plugin for Silent {
///     fn configure(_: &Host) -> Result<Self, Error> {
///         Ok(Self)
///     }
/// }
///
/// gatepost_plugin::export!(Silent: mail, rcpt);
/// ```
///
/// ```compile_fail
/// # struct Silent;
/// # impl gatepost_plugin::Plugin for Silent {
/// #     fn configure(_: &gatepost_plugin::Host) -> Result<Self, gatepost_plugin::Error> { Ok(Self) }
/// # }
/// gatepost_plugin::export!(Silent: recipient); // the stage is called `rcpt`
/// ```
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($stage:ident),+ $(,)?) => {
        const _: () = {
            const fn is_a_plugin<P: $crate::Plugin>() {}
            is_a_plugin::<$plugin>();
            $($crate::__stage!(check $stage);)+
        };

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Component;

            ::std::thread_local! {
                static PLUGIN: ::core::cell::OnceCell<$plugin> = const { ::core::cell::OnceCell::new() };
            }

            impl $crate::Hosted for Component {
                type Plugin = $plugin;

                fn registration() -> $crate::Registration {
                    $crate::Registration {
                        name: env!("CARGO_PKG_NAME").into(),
                        version: env!("CARGO_PKG_VERSION").into(),
                        description: env!("CARGO_PKG_DESCRIPTION").into(),
                    }
                }

                fn with<R>(act: impl FnOnce(&::core::cell::OnceCell<$plugin>) -> R) -> R {
                    PLUGIN.with(act)
                }
            }

            $crate::wit::configure::export!(Component with_types_in $crate::wit::configure);
            $($crate::__stage!(export $stage Component);)+
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __stage {
    (check connect) => {};
    (check helo) => {};
    (check auth) => {};
    (check mail) => {};
    (check rcpt) => {};
    (check data) => {};
    (check route) => {};
    (check deliver) => {};
    (check outcome) => {};
    (check dsn) => {};
    (check disconnect) => {};
    (check $other:ident) => {
        compile_error!(concat!(
            "`", stringify!($other), "` is no stage: there are connect, helo, auth, mail, rcpt, data, route, \
             deliver, outcome, dsn and disconnect"
        ));
    };
    (export connect $component:ident) => {
        $crate::wit::on_connect::export!($component with_types_in $crate::wit::on_connect);
    };
    (export helo $component:ident) => {
        $crate::wit::on_helo::export!($component with_types_in $crate::wit::on_helo);
    };
    (export auth $component:ident) => {
        $crate::wit::on_auth::export!($component with_types_in $crate::wit::on_auth);
    };
    (export mail $component:ident) => {
        $crate::wit::on_mail::export!($component with_types_in $crate::wit::on_mail);
    };
    (export rcpt $component:ident) => {
        $crate::wit::on_rcpt::export!($component with_types_in $crate::wit::on_rcpt);
    };
    (export data $component:ident) => {
        $crate::wit::on_data::export!($component with_types_in $crate::wit::on_data);
    };
    (export route $component:ident) => {
        $crate::wit::on_route::export!($component with_types_in $crate::wit::on_route);
    };
    (export deliver $component:ident) => {
        $crate::wit::on_deliver::export!($component with_types_in $crate::wit::on_deliver);
    };
    (export outcome $component:ident) => {
        $crate::wit::on_outcome::export!($component with_types_in $crate::wit::on_outcome);
    };
    (export dsn $component:ident) => {
        $crate::wit::on_dsn::export!($component with_types_in $crate::wit::on_dsn);
    };
    (export disconnect $component:ident) => {
        $crate::wit::on_disconnect::export!($component with_types_in $crate::wit::on_disconnect);
    };
    (export $other:ident $component:ident) => {};
}
