# SPDX-License-Identifier: Apache-2.0
#
# The same image as a version in an Azure compute gallery, for confidential VMs. Azure has no import post-processor: its own
# command line does it, logged in beforehand. The image takes no provisioning by an agent, so it is "specialized".
#
#   packer build -only=azure.null.image -var azure_resource_group=G … .
#
# The machine: az vm create --security-type ConfidentialVM --os-disk-security-encryption-type VMGuestStateOnly
#   --enable-vtpm true --enable-secure-boot true|false --size Standard_DC2as_v5 --specialized --image ID
# Secure Boot there needs the operator's key in the gallery image version's UEFI settings.

variable "azure_resource_group" {
  type    = string
  default = "unset"
}

variable "azure_location" {
  type    = string
  default = "unset"
}

variable "azure_storage_account" {
  type    = string
  default = "unset"
}

variable "azure_container" {
  type    = string
  default = "images"
}

variable "azure_gallery" {
  type    = string
  default = "unset"
}

variable "azure_sku" {
  type    = string
  default = "strict"
}

variable "azure_version" {
  type        = string
  default     = "1.0.0"
  description = "Version of the gallery image: three numbers with dots."
}

build {
  name    = "azure"
  sources = ["source.null.image"]

  provisioner "shell-local" {
    environment_vars = concat(local.environment, ["FORMAT=vhd"])
    inline           = ["set -eu", local.build]
  }

  post-processors {
    post-processor "artifice" {
      files = ["${var.output}/disk.vhd"]
    }
    post-processor "shell-local" {
      environment_vars = concat(local.environment, [
        "GROUP=${var.azure_resource_group}",
        "LOCATION=${var.azure_location}",
        "ACCOUNT=${var.azure_storage_account}",
        "CONTAINER=${var.azure_container}",
        "GALLERY=${var.azure_gallery}",
        "VERSION=${var.azure_version}",
        "SKU=${var.azure_sku}",
      ])
      inline = [
        "set -eu",
        "az storage blob upload --auth-mode login --account-name \"$ACCOUNT\" --container-name \"$CONTAINER\" --type page --name \"$NAME-$VERSION.vhd\" --file \"$OUTPUT/disk.vhd\"",
        "uri=$(az storage blob url --auth-mode login --account-name \"$ACCOUNT\" --container-name \"$CONTAINER\" --name \"$NAME-$VERSION.vhd\" --output tsv)",
        "az sig image-definition create --resource-group \"$GROUP\" --location \"$LOCATION\" --gallery-name \"$GALLERY\" --gallery-image-definition \"$NAME\" --publisher kettle --offer attest --sku \"$SKU\" --os-type Linux --os-state Specialized --hyper-v-generation V2 --architecture x64 --features SecurityType=ConfidentialVmSupported",
        "az sig image-version create --resource-group \"$GROUP\" --location \"$LOCATION\" --gallery-name \"$GALLERY\" --gallery-image-definition \"$NAME\" --gallery-image-version \"$VERSION\" --os-vhd-uri \"$uri\" --os-vhd-storage-account \"$ACCOUNT\"",
      ]
      keep_input_artifact = true
    }
  }
}
