// Load measures what exporting spans costs a program, for meshtrace's exporter and for
// the SDK's batch processor with both OTLP exporters, and counts what arrives.
//
//	go run . compare -rate 20000 -n 200000      # all of them in turn, a table with ratios
//	go run . receive                            # a receiver with a ledger; prints its addresses
//	go run . send -rate 200000 -n 12000000 -exporter meshtrace-grpc -otlp ADDR -control ADDR
//
// The receiver is a process of its own, so that what a sender uses is the sender's; each
// sender is one, too. Sender "none" ends the same spans into nothing: the others' cost
// is what they use beyond it. Everything is on loopback addresses.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return errors.New("usage: load compare|receive|send [flags]")
	}
	fs := flag.NewFlagSet("load "+args[0], flag.ContinueOnError)
	switch args[0] {
	case "receive":
		if err := fs.Parse(args[1:]); err != nil {
			return err
		}
		return receive(ctx, stdout)
	case "send":
		s := sending{}
		s.flags(fs)
		fs.StringVar(&s.Exporter, "exporter", "meshtrace-http", "one of the exporters, or none")
		fs.StringVar(&s.OTLP, "otlp", "", "`address` of the receiver")
		fs.StringVar(&s.Control, "control", "", "`address` of the receiver's ledger")
		if err := fs.Parse(args[1:]); err != nil {
			return err
		}
		m, err := s.run(ctx)
		if err != nil {
			return err
		}
		return json.NewEncoder(stdout).Encode(m)
	case "compare":
		c := comparison{}
		c.flags(fs)
		fs.IntVar(&c.rounds, "rounds", 3, "how often each exporter has its turn; the table has medians")
		fs.StringVar(&c.only, "only", "", "a comma list of exporters in place of all")
		if err := fs.Parse(args[1:]); err != nil {
			return err
		}
		return c.run(ctx, stdout)
	}
	return fmt.Errorf("command %q: allowed is compare, receive or send", args[0])
}
