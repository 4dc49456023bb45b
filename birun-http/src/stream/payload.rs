//! How streams stand in the OpenAPI document: by what one line, or one event, is made of.

use std::marker::PhantomData;

use poem::{Body, IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type;

macro_rules! streams {
    ($($(#[$meta:meta])* $name:ident, $media:literal;)+) => {$(
        $(#[$meta])*
        pub(crate) struct $name<T>(Body, PhantomData<T>);

        impl<T> From<Body> for $name<T> {
            fn from(body: Body) -> Self {
                Self(body, PhantomData)
            }
        }

        impl<T: Type> Payload for $name<T> {
            const CONTENT_TYPE: &'static str = $media;

            fn schema_ref() -> MetaSchemaRef {
                T::schema_ref()
            }

            fn register(registry: &mut Registry) {
                T::register(registry);
            }
        }

        impl<T: Type> IntoResponse for $name<T> {
            fn into_response(self) -> Response {
                Response::builder().content_type(Self::CONTENT_TYPE).body(self.0)
            }
        }
    )+};
}

streams! {
    /// One JSON value on each line.
    JsonLines, "application/x-ndjson";
    /// Server-sent events, whose data is JSON.
    EventStream, "text/event-stream";
}
