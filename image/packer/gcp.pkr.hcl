# SPDX-License-Identifier: Apache-2.0
#
# The same image as a Compute Engine image for Confidential VMs with AMD SEV-SNP or Intel TDX.
#
#   packer build -only=gcp.null.image -var gcp_project=P -var gcp_bucket=B … .
#
# Which technology a machine has is said when it is made:
#   gcloud compute instances create N --image=I --confidential-compute-type=SEV_SNP (or TDX) --maintenance-policy=TERMINATE
#     --shielded-vtpm --no-service-account --no-scopes --metadata=enable-oslogin=FALSE

variable "gcp_project" {
  type    = string
  default = "unset"
}

variable "gcp_bucket" {
  type        = string
  default     = "unset"
  description = "Bucket that the archive is put into for the import; it can be deleted afterwards."
}

build {
  name    = "gcp"
  sources = ["source.null.image"]

  provisioner "shell-local" {
    environment_vars = concat(local.environment, ["FORMAT=tar.gz"])
    inline           = ["set -eu", local.build]
  }

  post-processors {
    post-processor "artifice" {
      files = ["${var.output}/disk.tar.gz"]
    }
    post-processor "googlecompute-import" {
      project_id        = var.gcp_project
      bucket            = var.gcp_bucket
      gcs_object_name   = "${var.name}.tar.gz"
      image_name        = var.name
      image_description = "Kettle Attest; what it is made of is in its signed provenance"
      image_guest_os_features = [
        "UEFI_COMPATIBLE",
        "SEV_SNP_CAPABLE",
        "TDX_CAPABLE",
        "GVNIC",
      ]
      keep_input_artifact = true
    }
  }
}
