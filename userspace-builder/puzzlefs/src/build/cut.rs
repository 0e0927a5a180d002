// SPDX-License-Identifier: Apache-2.0
//! The data of a file that has its chunks to itself.

use anyhow::Result;

use crate::encode::chunker::Policy;
use crate::encode::holes::Part;
use crate::encode::pipeline::Feeder;
use crate::tree::Extent;

/// Cuts the data of a file into chunks.
pub struct Cutter<'a, 'b> {
    /// Where chunks end.
    pub policy: Policy,
    /// Takes them.
    pub feeder: &'a mut Feeder<'b>,
    /// The file's extents.
    pub extents: &'a mut Vec<Extent>,
    /// Data in front of which all is cut.
    pub data: Vec<u8>,
}

impl Cutter<'_, '_> {
    /// The next part of the file.
    pub fn take(&mut self, part: Part<'_>) -> Result<()> {
        match part {
            Part::Data(mut bytes) => {
                let window = self.policy.window();
                while !bytes.is_empty() {
                    let room = window - self.data.len();
                    let (now, later) = bytes.split_at(room.min(bytes.len()));
                    self.data.extend_from_slice(now);
                    bytes = later;
                    if self.data.len() == window {
                        self.cut()?;
                    }
                }
                Ok(())
            }
            Part::Hole(len) => {
                self.finish()?;
                let (chunk, offset) = (Extent::HOLE, 0);
                self.extents.push(Extent { chunk, offset, len });
                Ok(())
            }
        }
    }

    /// Sends what is left: a run of data ends.
    pub fn finish(&mut self) -> Result<()> {
        while !self.data.is_empty() {
            self.cut()?;
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<()> {
        let cut = self.policy.cut(&self.data);
        let rest = self.data.split_off(cut);
        let chunk = self.feeder.send(std::mem::replace(&mut self.data, rest))?;
        let (offset, len) = (0, cut as u64);
        self.extents.push(Extent { chunk, offset, len });
        Ok(())
    }
}
