//! Octets in JSON: text where they are UTF-8, so that a scenario can be written by hand; otherwise a list of numbers.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Numbers(Vec<u8>),
}

impl From<Form> for Vec<u8> {
    fn from(form: Form) -> Self {
        match form {
            Form::Text(text) => text.into_bytes(),
            Form::Numbers(octets) => octets,
        }
    }
}

fn form(octets: &[u8]) -> Form {
    match std::str::from_utf8(octets) {
        Ok(text) => Form::Text(text.to_owned()),
        Err(_) => Form::Numbers(octets.to_vec()),
    }
}

pub(super) fn serialize<S: Serializer>(octets: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    form(octets).serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    Form::deserialize(deserializer).map(Into::into)
}

pub(super) mod option {
    use super::{Deserialize, Deserializer, Form, Serialize, Serializer, form};

    #[expect(clippy::ref_option, reason = "serde hands over the field as it is")]
    pub(in super::super) fn serialize<S: Serializer>(
        octets: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        octets.as_deref().map(form).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Form>::deserialize(deserializer)?.map(Into::into))
    }
}
