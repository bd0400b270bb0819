#!/bin/sh
exec /usr/lib/kettle/kettle-action started
