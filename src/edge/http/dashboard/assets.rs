//! The files of the pages, as they are in this binary.

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXTS: &str = "application/json";
const PICTURE: &str = "image/svg+xml";

/// A file: its path below `/ui/`, its type, what is in it.
pub(super) type Asset = (&'static str, &'static str, &'static [u8]);

macro_rules! assets {
    ($($path:literal: $kind:expr),* $(,)?) => {
        &[$(($path, $kind, include_bytes!(concat!("ui/", $path)))),*]
    };
}

/// All files. The empty path is the page itself, which shows everything else.
pub(super) const ASSETS: &[Asset] = assets! {
    "index.html": HTML,
    "style.css": STYLE,
    "icon.svg": PICTURE,
    "main.js": SCRIPT,
    "api.js": SCRIPT,
    "dom.js": SCRIPT,
    "texts.js": SCRIPT,
    "time.js": SCRIPT,
    "format.js": SCRIPT,
    "chart.js": SCRIPT,
    "problems.js": SCRIPT,
    "table.js": SCRIPT,
    "pager.js": SCRIPT,
    "dialog.js": SCRIPT,
    "diagnosis.js": SCRIPT,
    "messagetable.js": SCRIPT,
    "eventtable.js": SCRIPT,
    "words.js": SCRIPT,
    "texts/en.json": TEXTS,
    "texts/zh.json": TEXTS,
    "pages/clients.js": SCRIPT,
    "pages/cluster.js": SCRIPT,
    "pages/config.js": SCRIPT,
    "pages/dead.js": SCRIPT,
    "pages/delayed.js": SCRIPT,
    "pages/events.js": SCRIPT,
    "pages/group.js": SCRIPT,
    "pages/groups.js": SCRIPT,
    "pages/message.js": SCRIPT,
    "pages/messages.js": SCRIPT,
    "pages/overview.js": SCRIPT,
    "pages/topic.js": SCRIPT,
    "pages/topics.js": SCRIPT,
};

pub(super) fn find(path: &str) -> Option<&'static Asset> {
    let path = if path.is_empty() { "index.html" } else { path };
    ASSETS.iter().find(|(name, ..)| *name == path)
}
