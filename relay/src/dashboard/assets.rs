//! What the pages load: compiled in, named with a hash of their content, so that browsers may keep them for ever.

use crate::problem::Problem;
use crate::secrets::sha256_hex;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::LazyLock;

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    hash: String,
}

macro_rules! assets {
    ($($name:literal, $kind:expr, $bytes:expr;)*) => {
        vec![$(Asset { name: $name, kind: $kind, bytes: $bytes, hash: sha256_hex($bytes)[..12].to_owned() }),*]
    };
}

const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    assets! {
        "style.css", CSS, include_bytes!("../../static/style.css");
        "app.js", JS, include_bytes!("../../static/app.js");
        "stream.js", JS, include_bytes!("../../static/stream.js");
        "icon.svg", "image/svg+xml", include_bytes!("../../static/icon.svg");
        "hls.js", JS, include_bytes!(concat!(env!("OUT_DIR"), "/hls.js"));
        "uplot.js", JS, include_bytes!(concat!(env!("OUT_DIR"), "/uplot.js"));
        "uplot.css", CSS, include_bytes!(concat!(env!("OUT_DIR"), "/uplot.css"));
    }
});

/// The path of an asset, with its hash.
pub fn path(name: &str) -> String {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    asset.map_or_else(|| format!("/assets/missing/{name}"), |asset| format!("/assets/{}/{name}", asset.hash))
}

/// `GET /assets/{hash}/{name}`.
pub async fn serve(Path((hash, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name && asset.hash == hash) else {
        return Problem::not_found("file").into_response();
    };
    let tag = format!("\"{}\"", asset.hash);
    let fresh = headers.get(header::IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == tag.as_bytes());
    let cache = "public, max-age=31536000, immutable";
    let head = [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, cache), (header::ETAG, &tag)];
    if fresh { (StatusCode::NOT_MODIFIED, head).into_response() } else { (head, asset.bytes).into_response() }
}
