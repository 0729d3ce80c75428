package otlpreceiver

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// NewServer returns a server of h over HTTP/1, and HTTP/2 with or without TLS, that
// bounds what strangers can hold on to. The caller serves and stops it.
func NewServer(h http.Handler) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true) // gRPC without TLS
	return &http.Server{
		Handler:           h,
		Protocols:         &protocols,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute, // of one request
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		// Broken connections are the client's concern, which is told; the standard
		// logger belongs to the program.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// Serve serves h on l until ctx ends, then gives requests under way a second, and
// returns nil. It owns l. An error means that l failed before.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := NewServer(h)
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := srv.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	<-failed
	return err
}
