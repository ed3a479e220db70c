import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.hook.SendMessageContext;
import org.apache.rocketmq.client.hook.SendMessageHook;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.exception.RemotingException;

/** One producer with a thread for each of its keys, which sends the key's messages one after the other, each until it is stored. */
final class Senders {
    enum Kind {
        /** send(message): the client chooses the queue, and tries again elsewhere. */
        PLAIN,
        /** send(message, SelectMessageQueueByHash, key), as orderly producers do. The client does not try again. */
        HASHED,
        /** A queue by its number, under the broker name that served it last; one that cannot be reached makes it the next name. */
        NUMBERED,
    }

    /** After a failure the application waits so long before it sends the message again. */
    private static final long AGAIN_AFTER = 100;

    final Kind kind;
    private final String topic;
    private final Ledger ledger;
    private final int pause;
    private final DefaultMQProducer producer;
    private final List<Thread> threads = new ArrayList<>();
    private final Gauge acknowledged = new Gauge();
    private final AtomicInteger failedTries = new AtomicInteger();
    private final AtomicInteger failedCalls = new AtomicInteger();
    private final AtomicInteger failedTwice = new AtomicInteger();
    private int failedTwiceInAll;
    private double longest;
    private volatile boolean isStopping;

    Senders(Kind kind, String nameServers, String topic, Ledger ledger, int pause) throws MQClientException {
        this.kind = kind;
        this.topic = topic;
        this.ledger = ledger;
        this.pause = pause;
        producer = new DefaultMQProducer("kills-" + kind.name().toLowerCase());
        producer.setNamesrvAddr(nameServers);
        producer.start();
        producer.getDefaultMQProducerImpl().registerSendMessageHook(new SendMessageHook() {
            @Override
            public String hookName() {
                return "tries";
            }

            @Override
            public void sendMessageBefore(SendMessageContext context) {
            }

            @Override
            public void sendMessageAfter(SendMessageContext context) {
                if (context.getException() != null) {
                    failedTries.incrementAndGet();
                }
            }
        });
    }

    void start(int keys) {
        for (int number = 0; number < keys; number++) {
            int own = number;
            Thread thread = new Thread(() -> run(own), kind + "-" + number);
            threads.add(thread);
            thread.start();
        }
    }

    private void run(int own) {
        String name = kind.name().toLowerCase() + "-" + own;
        Ledger.Key key = ledger.key(name);
        int[] place = {own, 0};
        try {
            while (!isStopping) {
                Message message = new Message(topic, (name + " " + key.acknowledged).getBytes());
                long began = System.nanoTime();
                while (!isStored(message, name, place)) {
                    failedCalls.incrementAndGet();
                    if (++key.failures == 2) {
                        failedTwice.incrementAndGet();
                    }
                    Thread.sleep(AGAIN_AFTER);
                }
                key.failures = 0;
                key.acknowledged++;
                key.lastAcknowledged = System.nanoTime();
                acknowledged.happened();
                tookSince(began);
                Thread.sleep(pause);
            }
        } catch (InterruptedException stopped) {
            // It did not end in time; its message is not counted.
        }
    }

    private boolean isStored(Message message, String name, int[] place) throws InterruptedException {
        try {
            SendResult result;
            switch (kind) {
                case PLAIN:
                    result = producer.send(message);
                    break;
                case HASHED:
                    result = producer.send(message, new SelectMessageQueueByHash(), name);
                    break;
                default:
                    result = producer.send(message, (queues, sent, wanted) -> sameQueue(queues, place), null);
            }
            return result.getSendStatus() == SendStatus.SEND_OK;
        } catch (MQClientException | RemotingException | MQBrokerException failure) {
            if (kind != Kind.HASHED) {
                String text = failure.getClass().getSimpleName() + " " + String.valueOf(failure.getMessage()).replace('\n', ' ');
                System.err.println(name + ": " + text.substring(0, Math.min(300, text.length())));
            }
            // A broker that answers is there, and will do it.
            place[1] += failure instanceof MQBrokerException ? 0 : 1;
            return false;
        }
    }

    /** The queue of a number under one of the names that have it. */
    private static MessageQueue sameQueue(List<MessageQueue> queues, int[] place) {
        int count = (int) queues.stream().map(MessageQueue::getQueueId).distinct().count();
        List<MessageQueue> same =
            queues.stream().filter(queue -> queue.getQueueId() == place[0] % count).sorted().collect(Collectors.toList());
        return same.get(place[1] % same.size());
    }

    private synchronized void tookSince(long began) {
        longest = Math.max(longest, (System.nanoTime() - began) / 1e9);
    }

    /** What happened since it was asked for last. */
    synchronized Figures take() {
        int twice = failedTwice.getAndSet(0);
        failedTwiceInAll += twice;
        Figures figures = new Figures();
        figures.put("gap", acknowledged.take());
        figures.put("longest", longest);
        figures.put("tries", failedTries.getAndSet(0));
        figures.put("calls", failedCalls.getAndSet(0));
        figures.put("twice", twice);
        longest = 0;
        return figures;
    }

    synchronized int failedTwice() {
        return failedTwiceInAll + failedTwice.get();
    }

    void stop(long millis) throws InterruptedException {
        isStopping = true;
        long until = System.currentTimeMillis() + millis;
        for (Thread thread : threads) {
            thread.join(Math.max(1, until - System.currentTimeMillis()));
            thread.interrupt();
            thread.join();
        }
    }

    void shutdown() {
        producer.shutdown();
    }
}
