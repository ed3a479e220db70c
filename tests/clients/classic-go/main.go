// The classic Go client, unmodified: prints a line for each case that passes.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

const within = 40 * time.Second

// The default of 3 s is not always enough where several clusters of tests share two cores.
const sendTimeout = 20 * time.Second

func pass(name string) { fmt.Println("PASS classic-go " + name) }

func must(is bool, what string, values ...any) {
	if !is {
		fmt.Fprintf(os.Stderr, what+"\n", values...)
		os.Exit(1)
	}
}

func ok(err error) { must(err == nil, "%v", err) }

func await(what string, holds func() bool) {
	for until := time.Now().Add(within); !holds(); time.Sleep(50 * time.Millisecond) {
		must(time.Now().Before(until), "%s", what)
	}
}

// What consumers got, by key.
type taken struct {
	lock sync.Mutex
	all  map[string]*primitive.MessageExt
}

func (t *taken) take(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	t.lock.Lock()
	defer t.lock.Unlock()
	for _, message := range messages {
		t.all[message.GetKeys()] = message
	}
	return consumer.ConsumeSuccess, nil
}

func (t *taken) get(key string) *primitive.MessageExt {
	t.lock.Lock()
	defer t.lock.Unlock()
	return t.all[key]
}

func (t *taken) has(keys ...string) bool {
	for _, key := range keys {
		if t.get(key) == nil {
			return false
		}
	}
	return true
}

func message(topic, key string, body []byte) *primitive.Message {
	return primitive.NewMessage(topic, body).WithKeys([]string{key})
}

// Ends transactions as their keys say.
type listener struct {
	lock  sync.Mutex
	asked map[string]bool
}

func (l *listener) ExecuteLocalTransaction(message *primitive.Message) primitive.LocalTransactionState {
	switch message.GetKeys() {
	// A server that is slow may ask about what was decided.
	case "committed":
		return primitive.CommitMessageState
	case "rolled-back":
		return primitive.RollbackMessageState
	}
	return primitive.UnknowState
}

func (l *listener) CheckLocalTransaction(message *primitive.MessageExt) primitive.LocalTransactionState {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.asked[message.GetKeys()] = true
	if message.GetKeys() == "rolled-back" {
		return primitive.RollbackMessageState
	}
	return primitive.CommitMessageState
}

func main() {
	endpoints := flag.String("endpoints", "", "")
	topic := flag.String("topic", "", "")
	group := flag.String("group", "", "")
	flag.Parse()
	rlog.SetLogLevel("error")
	names := strings.Split(*endpoints, ";")
	background := context.Background()

	sender, err := rocketmq.NewProducer(producer.WithNsResolver(primitive.NewPassthroughResolver(names)),
		producer.WithGroupName(*group+"-producer"), producer.WithInstanceName("sender"),
		producer.WithSendMsgTimeout(sendTimeout))
	ok(err)
	ok(sender.Start())
	send := func(key string, body []byte, change func(*primitive.Message)) {
		sent := message(*topic, key, body)
		change(sent)
		result, err := sender.SendSync(background, sent)
		ok(err)
		must(result.Status == primitive.SendOK, "not stored: %s", result)
	}
	plain := func(*primitive.Message) {}
	send("sync", []byte("sync"), plain)
	pass("sync")
	large := bytes.Repeat([]byte("compressed "), 1000)
	send("compressed", large, plain)
	pass("compressed")
	done := make(chan error, 1)
	ok(sender.SendAsync(background, func(_ context.Context, _ *primitive.SendResult, err error) { done <- err },
		message(*topic, "async", []byte("async"))))
	ok(<-done)
	pass("async")
	ok(sender.SendOneWay(background, message(*topic, "oneway", []byte("oneway"))))
	pass("oneway")
	_, err = sender.SendSync(background, message(*topic, "batch0", []byte("b0")), message(*topic, "batch1", []byte("b1")))
	ok(err)
	pass("batch")
	send("delayed", []byte("delayed"), func(m *primitive.Message) { m.WithDelayTimeLevel(1) })
	sentAt := time.Now().UnixMilli()
	send("tagged", []byte("tagged"), func(m *primitive.Message) { m.WithTag("TagB") })

	got := &taken{all: map[string]*primitive.MessageExt{}}
	tagged := &taken{all: map[string]*primitive.MessageExt{}}
	subscribe := func(group, expression string, into *taken) rocketmq.PushConsumer {
		pushed, err := rocketmq.NewPushConsumer(consumer.WithNsResolver(primitive.NewPassthroughResolver(names)),
			consumer.WithGroupName(group), consumer.WithInstance(group),
			consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
		ok(err)
		selector := consumer.MessageSelector{Type: consumer.TAG, Expression: expression}
		ok(pushed.Subscribe(*topic, selector, into.take))
		ok(pushed.Start())
		return pushed
	}
	all := subscribe(*group, "*", got)
	await("pushed messages", func() bool {
		return got.has("sync", "compressed", "async", "oneway", "batch0", "batch1", "tagged")
	})
	must(bytes.Equal(got.get("compressed").Body, large), "another body than was sent")
	pass("push")
	await("the delayed message", func() bool { return got.has("delayed") })
	must(got.get("delayed").StoreTimestamp >= sentAt+900, "too early: %d", got.get("delayed").StoreTimestamp-sentAt)
	pass("delay")
	few := subscribe(*group+"-tagged", "TagB", tagged)
	await("the tagged message", func() bool { return tagged.has("tagged") })
	must(len(tagged.all) == 1, "too many for a tag: %d", len(tagged.all))
	pass("tags")

	decides := &listener{asked: map[string]bool{}}
	deals, err := rocketmq.NewTransactionProducer(decides, producer.WithNsResolver(primitive.NewPassthroughResolver(names)),
		producer.WithGroupName(*group+"-deals"), producer.WithInstanceName("deals"),
		producer.WithSendMsgTimeout(sendTimeout))
	ok(err)
	ok(deals.Start())
	for _, key := range []string{"committed", "rolled-back", "asked"} {
		_, err := deals.SendMessageInTransaction(background, message(*topic, key, []byte(key)))
		ok(err)
	}
	await("the committed message", func() bool { return got.has("committed") })
	pass("transaction")
	await("the question", func() bool { return got.has("asked") })
	decides.lock.Lock()
	must(decides.asked["asked"], "asked about %v", decides.asked)
	must(!got.has("rolled-back"), "what was rolled back came")
	pass("check-back")
	for _, one := range []rocketmq.PushConsumer{all, few} {
		ok(one.Shutdown())
	}
	ok(sender.Shutdown())
	os.Exit(0)
}
