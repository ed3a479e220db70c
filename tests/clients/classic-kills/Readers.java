import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.message.MessageExt;

/** Two push consumers of one group. */
final class Readers {
    final String group;
    final String topic;
    private final boolean isOrderly;
    private final Ledger ledger;
    private final List<DefaultMQPushConsumer> consumers = new ArrayList<>();
    private final Gauge received = new Gauge();
    private final AtomicInteger again = new AtomicInteger();
    private final AtomicInteger storedTwice = new AtomicInteger();
    private double latest;
    /** Where messages were that were received. */
    private final Set<String> places = ConcurrentHashMap.newKeySet();
    /** The number that each key has reached, for consumers in order. */
    private final Map<String, Integer> reached = new ConcurrentHashMap<>();
    /** The consumer that has a message of a queue in hand. */
    private final Map<Integer, DefaultMQPushConsumer> atWork = new ConcurrentHashMap<>();
    private final Faults faults;

    Readers(String group, String topic, boolean isOrderly, Ledger ledger, Faults faults) {
        this.group = group;
        this.topic = topic;
        this.isOrderly = isOrderly;
        this.ledger = ledger;
        this.faults = faults;
    }

    void start(String nameServers) throws MQClientException {
        for (int number = 0; number < 2; number++) {
            DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
            consumer.setNamesrvAddr(nameServers);
            consumer.subscribe(topic, "*");
            if (isOrderly) {
                consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
                    messages.forEach(message -> receiveInOrder(consumer, message));
                    return ConsumeOrderlyStatus.SUCCESS;
                });
            } else {
                consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                    messages.forEach(this::receive);
                    return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
                });
            }
            consumer.start();
            consumers.add(consumer);
        }
    }

    private void receiveInOrder(DefaultMQPushConsumer consumer, MessageExt message) {
        DefaultMQPushConsumer other = atWork.put(message.getQueueId(), consumer);
        if (other != null) {
            faults.add(group + ": two consumers have queue " + message.getQueueId() + " in hand at once");
        }
        String[] words = new String(message.getBody()).split(" ");
        int number = Integer.parseInt(words[1]);
        int next = reached.getOrDefault(words[0], 0);
        if (number > next) {
            faults.add(group + ": of " + words[0] + " came " + number + " before " + next);
        }
        reached.put(words[0], Math.max(next, number + 1));
        receive(message);
        atWork.remove(message.getQueueId());
    }

    private void receive(MessageExt message) {
        received.happened();
        cameLate((System.currentTimeMillis() - message.getStoreTimestamp()) / 1e3);
        String[] words = new String(message.getBody()).split(" ");
        boolean isNew = ledger.key(words[0]).receive(Integer.parseInt(words[1]));
        if (!places.add(message.getQueueId() + " " + message.getQueueOffset())) {
            again.incrementAndGet();
        } else if (!isNew) {
            storedTwice.incrementAndGet();
        }
    }

    private synchronized void cameLate(double seconds) {
        latest = Math.max(latest, seconds);
    }

    /** What happened since it was asked for last. */
    synchronized Figures take() {
        Figures figures = new Figures();
        figures.put("gap", received.take());
        figures.put("late", latest);
        figures.put("again", again.getAndSet(0));
        figures.put("stored twice", storedTwice.getAndSet(0));
        latest = 0;
        return figures;
    }

    void shutdown() {
        consumers.forEach(DefaultMQPushConsumer::shutdown);
    }
}
