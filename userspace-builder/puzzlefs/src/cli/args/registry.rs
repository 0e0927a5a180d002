// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands that speak with registries.

use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, Args, Parser};
use puzzlefs::layout::reference::Reference;
use puzzlefs::registry;
use puzzlefs::registry::name::PREFIX;
use puzzlefs::remote::with::With;

use super::values::{threads, Format};

/// How registries are spoken with, by the names that skopeo and oras have for it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Registry options")]
pub struct Registry {
    /// Speak plain http, without TLS
    #[arg(long)]
    pub plain_http: bool,
    /// Whether the server has to show that it is who was asked for
    ///
    /// With false it still is TLS that is spoken.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub tls_verify: bool,
    /// File with credentials, as skopeo login and docker login write it
    ///
    /// [default: $REGISTRY_AUTH_FILE, or the first of $XDG_RUNTIME_DIR/containers/auth.json,
    /// ~/.config/containers/auth.json and ~/.docker/config.json that has some for the registry]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Directory with authorities (*.crt), and the client's certificate (*.cert and *.key)
    ///
    /// [default: the first of ~/.config/containers/certs.d/HOST, /etc/containers/certs.d/HOST and
    /// /etc/docker/certs.d/HOST that is there]
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
    /// How often a request that fails for a reason that may pass is tried again
    #[arg(long, value_name = "N", default_value_t = registry::RETRIES)]
    pub retry_times: u32,
    /// Address of the server that has s3:// places [default: $AWS_ENDPOINT_URL, or Amazon's of $AWS_REGION]
    ///
    /// Credentials are $AWS_ACCESS_KEY_ID, $AWS_SECRET_ACCESS_KEY and $AWS_SESSION_TOKEN, or those that Amazon gives the
    /// machine, the container or the web identity; $AWS_SKIP_SIGNATURE=true for none.
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
}

impl Registry {
    /// The same for the library.
    pub fn options(&self) -> registry::Options {
        registry::Options {
            plain_http: self.plain_http,
            skip_verify: !self.tls_verify,
            auth_file: self.authfile.clone(),
            cert_dir: self.cert_dir.clone(),
            retries: self.retry_times,
            endpoint: self.endpoint.clone(),
        }
    }
}

/// An image that is looked at, here or in a registry.
#[derive(Clone, Debug)]
pub enum Image {
    /// In a layout.
    Here(Reference),
    /// In a registry.
    Registry(registry::Reference),
}

impl FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.starts_with(PREFIX) {
            true => Image::Registry(text.parse()?),
            false => Image::Here(text.parse()?),
        })
    }
}

/// Images with tags.
#[derive(Clone, Debug)]
pub enum Home {
    /// A layout.
    Here(PathBuf),
    /// A repository.
    Registry(registry::Repository),
}

impl FromStr for Home {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.starts_with(PREFIX) {
            true => Home::Registry(text.parse()?),
            false => Home::Here(text.into()),
        })
    }
}

/// Push an image to a registry
///
/// Sends the blobs that the registry lacks, and then the manifest as it is: so its digest, which this
/// prints, is that of the layout. An interrupted push leaves the old image under the tag, and the next
/// one goes on with what is missing. Registries take PuzzleFS images as any others.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs push /var/lib/images:app docker://registry.example/team/app:1.0
  puzzlefs push --with oci:./build:v1 /var/lib/images:app docker://registry.example/team/app:1.0
  puzzlefs push --stand-in /var/lib/images:app docker://registry.example/team/app:1.0")]
pub struct Push {
    /// Let the tag name an ordinary image too: oci:DIR:TAG or docker://HOST/REPOSITORY:TAG
    ///
    /// That is the image which IMAGE was converted from. The tag then names an index of both. Tools that
    /// know nothing of PuzzleFS take the ordinary one.
    #[arg(long, value_name = "SOURCE")]
    pub with: Option<With>,
    /// Let the tag name an image for containerd, podman and CRI-O too, which pull it without its content
    ///
    /// The tag then names an index: of an ordinary image of one small layer, which stands for IMAGE with its config, and of
    /// IMAGE. They take the first one, and `puzzlefs snapshotter` or `puzzlefs layer-store` mounts IMAGE in its place. Without that it
    /// cannot be run.
    #[arg(long, alias = "containerd", conflicts_with = "with")]
    pub stand_in: bool,
    /// A repository of the same registry that may have some of the blobs: docker://HOST/REPOSITORY
    ///
    /// What it has is not sent. It may be given several times.
    #[arg(long, value_name = "REPOSITORY")]
    pub mount_from: Vec<registry::Repository>,
    /// Number of blobs that are sent at the same time
    #[arg(long, value_name = "N", value_parser = threads, default_value_t = jobs())]
    pub jobs: NonZero<usize>,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// How the registry is spoken with.
    #[command(flatten)]
    pub registry: Registry,
    /// The image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
    /// The repository, and the tag there
    #[arg(value_name = "docker://HOST/REPOSITORY:TAG")]
    pub to: registry::Reference,
}

pub(super) fn jobs() -> NonZero<usize> {
    NonZero::new(puzzlefs::remote::push::JOBS).unwrap_or(NonZero::<usize>::MIN)
}
