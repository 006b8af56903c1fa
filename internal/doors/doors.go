// Package doors tries a service behind locked doors.
package doors
