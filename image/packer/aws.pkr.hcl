# SPDX-License-Identifier: Apache-2.0
#
# The same image as an AMI. Amazon's import post-processor is not used: it runs VM Import, which changes the disk. A snapshot
# import keeps it byte for byte; it and the registration are done by Amazon's own command line, logged in beforehand.
#
#   packer build -only=aws.null.image -var aws_bucket=B -var aws_region=R … .
#
# The machine: aws ec2 run-instances --image-id I --instance-type m6a.large --cpu-options AmdSevSnp=enabled

variable "aws_region" {
  type    = string
  default = "unset"
}

variable "aws_bucket" {
  type        = string
  default     = "unset"
  description = "Bucket that the disk is put into for the import, which the role vmimport may read."
}

build {
  name    = "aws"
  sources = ["source.null.image"]

  provisioner "shell-local" {
    environment_vars = concat(local.environment, ["FORMAT=raw"])
    inline           = ["set -eu", local.build]
  }

  post-processors {
    post-processor "artifice" {
      files = ["${var.output}/disk.raw"]
    }
    post-processor "shell-local" {
      environment_vars = concat(local.environment, [
        "AWS_REGION=${var.aws_region}",
        "BUCKET=${var.aws_bucket}",
      ])
      inline = [
        "set -eu",
        "aws s3 cp \"$OUTPUT/disk.raw\" \"s3://$BUCKET/$NAME.raw\"",
        "task=$(aws ec2 import-snapshot --description \"$NAME\" --disk-container \"Format=RAW,UserBucket={S3Bucket=$BUCKET,S3Key=$NAME.raw}\" --query ImportTaskId --output text)",
        "aws ec2 wait snapshot-imported --import-task-ids \"$task\"",
        "snapshot=$(aws ec2 describe-import-snapshot-tasks --import-task-ids \"$task\" --query 'ImportSnapshotTasks[0].SnapshotTaskDetail.SnapshotId' --output text)",
        "aws ec2 register-image --name \"$NAME\" --architecture x86_64 --virtualization-type hvm --ena-support --boot-mode uefi --tpm-support v2.0 --imds-support v2.0 --root-device-name /dev/xvda --block-device-mappings \"DeviceName=/dev/xvda,Ebs={SnapshotId=$snapshot,VolumeType=gp3,DeleteOnTermination=true}\"",
      ]
      keep_input_artifact = true
    }
  }
}
