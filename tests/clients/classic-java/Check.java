import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** The classic Java client, unmodified: prints a line for each case that passes. */
public class Check {
    private static final int MESSAGES = 40;

    private final String endpoints;
    private final String topic;
    private final String group;

    Check(String endpoints, String topic, String group) {
        this.endpoints = endpoints;
        this.topic = topic;
        this.group = group;
    }

    public static void main(String[] args) throws Exception {
        Check check = new Check(value(args, "--endpoints"), value(args, "--topic"), value(args, "--group"));
        DefaultMQProducer producer = new DefaultMQProducer(check.group + "-producer");
        producer.setNamesrvAddr(check.endpoints);
        producer.start();
        try {
            check.sends(producer);
            check.consumes(producer);
        } finally {
            producer.shutdown();
        }
        System.exit(0);
    }

    private static String value(String[] args, String name) {
        for (int at = 0; at + 1 < args.length; at += 2) {
            if (args[at].equals(name)) {
                return args[at + 1];
            }
        }
        throw new IllegalArgumentException(name + " is missing");
    }

    private static void pass(String name) {
        System.out.println("PASS classic-java " + name);
    }

    private static void must(boolean is, String what) {
        if (!is) {
            throw new AssertionError(what);
        }
    }

    private static void stored(SendResult result) {
        must(result.getSendStatus() == SendStatus.SEND_OK, "not stored: " + result);
    }

    /** The topic does not exist yet: the first send makes it. */
    private void sends(DefaultMQProducer producer) throws Exception {
        stored(producer.send(new Message(topic, "TagA", "key", "sync".getBytes())));
        pass("sync");
        stored(producer.send(new Message(topic, new byte[10_000])));
        pass("compressed");
        CompletableFuture<SendResult> answer = new CompletableFuture<>();
        producer.send(new Message(topic, "async".getBytes()), new SendCallback() {
            @Override
            public void onSuccess(SendResult result) {
                answer.complete(result);
            }

            @Override
            public void onException(Throwable error) {
                answer.completeExceptionally(error);
            }
        });
        stored(answer.get(5, TimeUnit.SECONDS));
        pass("async");
        producer.sendOneway(new Message(topic, "oneway".getBytes()));
        pass("oneway");
        List<Message> batch = new ArrayList<>();
        for (int number = 0; number < 10; number++) {
            batch.add(new Message(topic, ("batch" + number).getBytes()));
        }
        SendResult batched = producer.send(batch);
        stored(batched);
        must(batched.getMsgId().split(",").length == 10, "ids of a batch: " + batched);
        pass("batch");
        long offset = -1;
        for (int number = 0; number < 5; number++) {
            SendResult chosen = producer.send(new Message(topic, "ordered".getBytes()), (queues, message, wanted) ->
                queues.stream().filter(queue -> queue.getQueueId() == (Integer) wanted).findFirst().get(), 2);
            stored(chosen);
            must(chosen.getMessageQueue().getQueueId() == 2, "another queue: " + chosen);
            must(chosen.getQueueOffset() > offset, "out of order: " + chosen);
            offset = chosen.getQueueOffset();
        }
        pass("selector");
    }

    private void consumes(DefaultMQProducer producer) throws Exception {
        String consumed = topic + "-consumed";
        Set<String> bodies = new HashSet<>();
        for (int number = 0; number < MESSAGES; number++) {
            String body = "m" + number;
            bodies.add(body);
            stored(producer.send(new Message(consumed, number % 2 == 0 ? "TagA" : "TagB", body.getBytes())));
        }
        Set<String> got = ConcurrentHashMap.newKeySet();
        DefaultMQPushConsumer consumer = consumer(group, consumed, "*", message -> got.add(new String(message.getBody())));
        await(() -> got.containsAll(bodies), "pushed " + got);
        pass("push");
        stored(producer.send(new Message(consumed, "TagA", "late".getBytes())));
        await(() -> got.contains("late"), "what arrives while the consumer waits");
        pass("waits");
        consumer.shutdown();
        Set<String> tagged = ConcurrentHashMap.newKeySet();
        DefaultMQPushConsumer filtering =
            consumer(group + "-tagged", consumed, "TagB", message -> tagged.add(new String(message.getBody())));
        await(() -> tagged.size() == MESSAGES / 2, "tagged " + tagged);
        pass("tags");
        filtering.shutdown();
        // The first consumer committed what it consumed when it went.
        AtomicInteger again = new AtomicInteger();
        DefaultMQPushConsumer later = consumer(group, consumed, "*", message -> again.incrementAndGet());
        stored(producer.send(new Message(consumed, "TagA", "last".getBytes())));
        await(() -> again.get() > 0, "the last message");
        Thread.sleep(2000);
        must(again.get() == 1, "consumed before, and again: " + (again.get() - 1));
        pass("offsets");
        // Two consumers of a group divide the queues among themselves.
        AtomicInteger others = new AtomicInteger();
        DefaultMQPushConsumer second = new DefaultMQPushConsumer(group);
        second.setInstanceName("second");
        start(second, consumed, "*", message -> others.incrementAndGet());
        await(() -> {
            stored(producer.send(new Message(consumed, "TagA", "shared".getBytes())));
            return others.get() > 0;
        }, "the second consumer of a group gets nothing");
        pass("rebalance");
        second.shutdown();
        later.shutdown();
    }

    interface Taken {
        void take(MessageExt message);
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    private DefaultMQPushConsumer consumer(String name, String consumed, String tags, Taken taken) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(name);
        start(consumer, consumed, tags, taken);
        return consumer;
    }

    private void start(DefaultMQPushConsumer consumer, String consumed, String tags, Taken taken) throws Exception {
        consumer.setNamesrvAddr(endpoints);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(consumed, tags);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(taken::take);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
    }

    private static void await(Condition condition, String what) throws Exception {
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(40);
        while (!condition.holds()) {
            must(System.nanoTime() < until, what);
            Thread.sleep(50);
        }
    }
}
