# SPDX-License-Identifier: Apache-2.0
#
# One image, built by kettle, for QEMU. Packer starts no machine: an image that a running machine has changed cannot be built
# again bit for bit, and its measurements cannot be predicted. It runs `kettle image build`, takes the files, and writes down
# what they are. The disk is booted by `kettle image run`, which takes no Packer.
#
#   packer build -only=qemu.null.image -var settings=DIR -var runner=FILE -var output=DIR .
#
# Packer before 1.7 knows no required_plugins: give it a copy of this folder without plugins.pkr.hcl.

variable "kettle" {
  type        = string
  default     = "kettle"
  description = "The program kettle."
}

variable "settings" {
  type        = string
  description = "Folder with the measured configuration: config.yaml, which names the profile, and the files that it names."
}

variable "runner" {
  type        = string
  description = "File that pins a release of the runner program."
}

variable "output" {
  type        = string
  description = "Folder that the image is put into."
}

variable "name" {
  type        = string
  default     = "kettle"
  description = "Name of the image, also where it is imported to: lower-case letters, digits and dashes."
}

locals {
  # What the shell is given, so that no value becomes part of a command.
  environment = [
    "KETTLE=${var.kettle}",
    "SETTINGS=${var.settings}",
    "RUNNER=${var.runner}",
    "OUTPUT=${var.output}",
    "NAME=${var.name}",
  ]
  build = "\"$KETTLE\" image build --name \"$NAME\" --settings \"$SETTINGS\" --runner \"$RUNNER\" --output \"$OUTPUT\" --format \"$FORMAT\""
}

source "null" "image" {
  communicator = "none"
}

build {
  name    = "qemu"
  sources = ["source.null.image"]

  provisioner "shell-local" {
    environment_vars = concat(local.environment, ["FORMAT=qcow2"])
    inline           = ["set -eu", local.build]
  }

  post-processors {
    post-processor "artifice" {
      files = [
        "${var.output}/disk.qcow2",
        "${var.output}/disk.raw",
        "${var.output}/uki.efi",
        "${var.output}/vmlinuz",
        "${var.output}/initrd.cpio",
        "${var.output}/root.erofs",
        "${var.output}/firmware.bin",
        "${var.output}/packages.txt",
        "${var.output}/sbom.spdx.json",
        "${var.output}/image.json",
      ]
    }
    post-processor "checksum" {
      checksum_types      = ["sha256"]
      output              = "${var.output}/SHA256SUMS"
      keep_input_artifact = true
    }
    post-processor "manifest" {
      output     = "${var.output}/packer-manifest.json"
      strip_path = true
    }
  }
}
