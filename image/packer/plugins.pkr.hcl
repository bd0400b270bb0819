# SPDX-License-Identifier: Apache-2.0
#
# For Packer 1.7 and later, where the import into Compute Engine is a plugin. Packer 1.6.6 has it built in and takes this file
# for a mistake: leave it out there.

packer {
  required_plugins {
    googlecompute = {
      source  = "github.com/hashicorp/googlecompute"
      version = "~> 1.1"
    }
  }
}
