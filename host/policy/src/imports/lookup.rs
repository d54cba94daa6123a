//! `lookup`: tables of the configuration. Grant: lookup, by table.

use crate::bindings::HostError;
use crate::bindings::imports::lookup::Host;
use crate::guest::Guest;
use crate::tables::{Table, TableKind};

impl Host for Guest {
    fn get(
        &mut self,
        table: String,
        key: String,
    ) -> wasmtime::Result<Result<Option<String>, HostError>> {
        self.charge()?;
        Ok(self.look(&table, |found| match found.kind() {
            TableKind::Exact | TableKind::Address => Ok(found.get(&key)),
            TableKind::Cidr => Err(wrong_kind(&table, "exact or address")),
        }))
    }

    fn match_ip(
        &mut self,
        table: String,
        ip: String,
    ) -> wasmtime::Result<Result<Option<String>, HostError>> {
        self.charge()?;
        Ok(self.look(&table, |found| {
            let address =
                ip.parse().map_err(|_| HostError::Invalid(format!("{ip:?} is no IP address")))?;
            match found.kind() {
                TableKind::Cidr => Ok(found.match_ip(address)),
                TableKind::Exact | TableKind::Address => Err(wrong_kind(&table, "cidr")),
            }
        }))
    }

    fn match_address(
        &mut self,
        table: String,
        address: String,
    ) -> wasmtime::Result<Result<Option<String>, HostError>> {
        self.charge()?;
        Ok(self.look(&table, |found| match found.kind() {
            TableKind::Address => Ok(found.match_address(&address)),
            TableKind::Exact | TableKind::Cidr => Err(wrong_kind(&table, "address")),
        }))
    }
}

impl Guest {
    fn look(
        &self,
        name: &str,
        find: impl FnOnce(&Table) -> Result<Option<&str>, HostError>,
    ) -> Result<Option<String>, HostError> {
        if !self.core.grants.lookup.iter().any(|granted| granted == name) {
            return Err(HostError::Denied(format!("lookup {name:?}")));
        }
        let tables = self.core.services.tables.load();
        let table = tables
            .get(name)
            .ok_or_else(|| HostError::Invalid(format!("there is no table {name:?}")))?;
        Ok(find(table)?.map(str::to_owned))
    }
}

fn wrong_kind(table: &str, wanted: &str) -> HostError {
    HostError::Invalid(format!("table {table:?} is not of the kind {wanted}"))
}
