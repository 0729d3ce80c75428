package middleware

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"time"
)

// signalTimeout is how long a program lives on after a signal to send its spans.
const signalTimeout = time.Second

// flushOnSignal sends what is left when a signal asks the program to end, and then lets
// the signal have its own effect. It ends with Shutdown.
func (t *Tracing) flushOnSignal() {
	arrived := make(chan os.Signal, 1)
	stop := make(chan struct{})
	done := make(chan struct{})
	t.unwatch = func() {
		signal.Stop(arrived)
		close(stop)
		<-done
	}
	signal.Notify(arrived, endingSignals...)
	go func() {
		defer close(done)
		select {
		case <-stop:
		case s := <-arrived:
			ctx, cancel := context.WithTimeout(context.Background(), signalTimeout)
			defer cancel()
			if err := t.ForceFlush(ctx); err != nil {
				t.log(slog.LevelWarn, "meshtrace: "+err.Error())
			}
			raise(s)
		}
	}()
}
