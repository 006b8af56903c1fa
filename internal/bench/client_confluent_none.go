//go:build !cgo

package main

import "context"

const confluentMissing = "it needs cgo: a C compiler, and CGO_ENABLED=1"

func confluentPublishes(task) (publisher, error) { panic(confluentMissing) }

func confluentConsumes(context.Context, task, *handler) error { panic(confluentMissing) }
