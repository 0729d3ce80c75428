//go:build unix

package middleware

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

var endingSignals = []os.Signal{syscall.SIGTERM, os.Interrupt}

// raise sends s to this program with nobody left to catch it.
func raise(s os.Signal) {
	signal.Reset(s)
	if sig, ok := s.(syscall.Signal); ok && syscall.Kill(os.Getpid(), sig) == nil {
		time.Sleep(time.Second) // it takes effect on some thread, if the program was not started to ignore it
		return
	}
	os.Exit(1)
}
