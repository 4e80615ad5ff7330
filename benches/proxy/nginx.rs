//! nginx, for scale: what a proxy in C that passes bytes on costs in the floor's place.
//!
//! It is set up as one would in front of a provider, and logs nothing. Where it is missing, nothing but its column is.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

/// An nginx that answered when asked for its version.
#[derive(Clone, Debug)]
pub(crate) struct Nginx {
    program: PathBuf,
    version: String,
}

impl Nginx {
    /// The one on the search path, or where administrators' programs are.
    pub(crate) fn find() -> Option<Self> {
        PROGRAMS.into_iter().find_map(|program| {
            let output = Command::new(program).arg("-v").output().ok()?;
            let told = String::from_utf8_lossy(&output.stderr);
            let version = told.split_whitespace().find(|word| word.contains('/'));
            Some(Self {
                program: PathBuf::from(program),
                version: version.unwrap_or("nginx").replace('/', " "),
            })
        })
    }

    /// Its name and version.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The command that serves on `listen` and keeps all its files in `folder`.
    pub(crate) fn command(
        &self,
        folder: &Path,
        listen: SocketAddr,
        provider: SocketAddr,
    ) -> Result<Command> {
        let path = folder.join("nginx.conf");
        fs::write(&path, config(folder, listen, provider))?;
        let mut command = Command::new(&self.program);
        command.arg("-p").arg(folder).arg("-c").arg(path);
        Ok(command)
    }
}

/// Two workers, as the other proxies have two threads. A connection is never closed for the number of its requests, and what
/// comes from either side is passed on at once: gathering a prompt of 1 MB first would cost nearly twice as much.
fn config(folder: &Path, listen: SocketAddr, provider: SocketAddr) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("    {what}_temp_path \"{folder}/{what}\";\n"))
        .collect();
    format!(
        r#"daemon off;
worker_processes 2;
pid "{folder}/nginx.pid";
error_log stderr error;
events {{
    worker_connections 16384;
}}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 1000000000;
{temporary}    upstream provider {{
        server {provider};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {listen};
        client_max_body_size 32m;
        client_body_buffer_size 128k;
        location = /health {{
            return 200;
        }}
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_read_timeout 1h;
        }}
    }}
}}
"#
    )
}

const PROGRAMS: [&str; 3] = ["nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"];
