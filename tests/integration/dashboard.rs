//! The operator's page: open without the token, guarded by headers, whole in itself.

use std::collections::BTreeSet;

use crate::harness::{Arbstr, Provider, Reply, Setup};

const TOKEN: &str = "the-clients-token";

fn guarded() -> (Provider, Arbstr) {
    let provider = Provider::healthy(1, 1);
    let setup = Setup::of(&provider).set("server", &format!("auth_token = \"{TOKEN}\""));
    let arbstr = setup.start();
    (provider, arbstr)
}

/// The page's files by path, found as a browser finds them: from the page, and from what its files name.
fn files(arbstr: &Arbstr) -> Vec<(String, Reply, String)> {
    let mut known = BTreeSet::from(["/".to_owned()]);
    let mut waiting = vec!["/".to_owned()];
    let mut files = Vec::new();
    while let Some(path) = waiting.pop() {
        let mut reply = arbstr.get(&path);
        let text = reply.finish();
        assert_eq!(reply.status, 200, "{path}: {text}");
        for found in references(&path, &text) {
            if known.insert(found.clone()) {
                waiting.push(found);
            }
        }
        files.push((path, reply, text));
    }
    files
}

/// What a file of the page names: `src` and `href` of markup, `from "…"` of modules.
fn references(path: &str, text: &str) -> Vec<String> {
    let (marks, base): (&[&str], &str) = if path == "/" {
        (&["src=\"", "href=\""], "/")
    } else {
        (&["from \"./"], "/dashboard/")
    };
    let named = marks.iter().flat_map(|mark| {
        text.match_indices(mark)
            .map(|(at, _)| &text[at + mark.len()..])
            .filter_map(|rest| rest.split_once('"'))
            .map(|(name, _)| name)
    });
    named
        .filter(|name| !name.starts_with('#'))
        .map(|name| format!("{base}{name}"))
        .collect()
}

#[test]
fn the_page_and_its_files_are_open_and_the_figures_are_not() {
    let (_provider, arbstr) = guarded();
    let files = files(&arbstr);
    assert!(files.len() > 10, "{}", files.len());
    for path in [
        "/providers",
        "/v1/models",
        "/v1/requests/x",
        "/dashboard/none.js",
    ] {
        assert_eq!(arbstr.get(path).status, 401, "{path}");
    }
}

/// Chromium sends `Origin` with each module of a page. Behind nginx that is the outer address, and `Host` the inner one: the
/// page stayed blank.
#[test]
fn the_page_and_its_modules_load_behind_a_proxy() {
    let (_provider, arbstr) = guarded();
    let outer = [("origin", "https://llm.example.com")];
    for (path, ..) in files(&arbstr) {
        assert_eq!(arbstr.call("GET", &path, &outer, b"").status, 200, "{path}");
    }
    let foreign = arbstr.call("GET", "/v1/stats", &outer, b"");
    assert_eq!(foreign.status, 403);
    let posted = arbstr.call("POST", "/dashboard/main.js", &outer, b"");
    assert_eq!(posted.status, 403);
}

#[test]
fn every_file_has_its_type_and_its_guards() {
    let (_provider, arbstr) = guarded();
    for (path, reply, _) in files(&arbstr) {
        let expected = match path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(reply.needs("content-type"), expected, "{path}");
        assert_eq!(reply.needs("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.needs("cache-control"), "no-cache", "{path}");
        let policy = reply.needs("content-security-policy");
        for directive in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(
                policy.split("; ").any(|given| given == directive),
                "{directive} for {path} in {policy}"
            );
        }
        reply.id();
    }
}

#[test]
fn a_file_that_the_browser_has_is_not_sent_again() {
    let (_provider, arbstr) = guarded();
    let mut tags = BTreeSet::new();
    for (path, reply, text) in files(&arbstr) {
        let tag = reply.needs("etag").to_owned();
        assert!(tags.insert(tag.clone()), "{path} has the tag of another");
        let asked = [("if-none-match", tag.as_str()), ("connection", "close")];
        let mut again = arbstr.call("GET", &path, &asked, b"");
        assert_eq!((again.status, again.drain().as_str()), (304, ""), "{path}");
        assert_eq!(again.needs("etag"), tag);
        let mut other = arbstr.call("GET", &path, &[("if-none-match", "\"other\"")], b"");
        assert_eq!((other.status, other.finish()), (200, text), "{path}");
    }
}

#[test]
fn head_tells_the_length_and_other_methods_are_405() {
    let (_provider, arbstr) = guarded();
    for (path, _, text) in files(&arbstr) {
        let mut head = arbstr.call("HEAD", &path, &[], b"");
        assert_eq!((head.status, head.finish().as_str()), (200, ""), "{path}");
        assert_eq!(head.needs("content-length"), text.len().to_string());
    }
    let posted = arbstr.call("POST", "/", &[], b"");
    assert_eq!(posted.status, 405, "{}", posted.head);
    assert_eq!(posted.needs("allow"), "GET, HEAD");
}

#[test]
fn the_page_needs_nothing_from_elsewhere_and_nothing_inline() {
    let (_provider, arbstr) = guarded();
    for (path, _, text) in files(&arbstr) {
        for (at, _) in text.match_indices("://") {
            let around = &text[text.floor_char_boundary(at.saturating_sub(8))
                ..text.ceil_char_boundary((at + 40).min(text.len()))];
            // A name space is no address, and the library's first line says where it comes from.
            let harmless = around.contains("http://www.w3.org/2000/svg")
                || (at < 20 && around.contains("https://github.com/leeoniya/uPlot"));
            assert!(harmless, "{path} names {around}");
        }
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "javascript:",
        ] {
            assert!(!text.contains(forbidden), "{forbidden} in {path}");
        }
        if path == "/" {
            for inline in ["<style", " style=", " onclick=", "<script>"] {
                assert!(!text.contains(inline), "{inline} in the page");
            }
            for absolute in ["src=\"/", "href=\"/"] {
                assert!(
                    !text.contains(absolute),
                    "{absolute}: breaks behind a path prefix"
                );
            }
        }
    }
}

#[test]
fn the_vendored_library_comes_with_its_licence() {
    let (_provider, arbstr) = guarded();
    let mut licence = arbstr.get("/dashboard/vendor/uPlot.LICENSE.txt");
    assert!(licence.finish().contains("The MIT License"));
    assert_eq!(licence.needs("content-type"), "text/plain; charset=utf-8");
}
