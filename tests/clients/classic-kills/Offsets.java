import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.store.ReadOffsetType;
import org.apache.rocketmq.client.consumer.store.RemoteBrokerOffsetStore;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageQueue;

/** Asks brokers twice a second which offsets the groups committed: none may go back. Its route is as new as can be. */
final class Offsets extends Thread {
    private final DefaultMQProducer client = new DefaultMQProducer("kills-offsets");
    private final List<Readers> groups;
    private final Faults faults;
    private final Map<String, Long> seen = new HashMap<>();
    private final MQClientInstance instance;
    private volatile boolean isStopping;
    volatile int looks;

    Offsets(String nameServers, List<Readers> groups, Faults faults) throws MQClientException {
        this.groups = groups;
        this.faults = faults;
        client.setNamesrvAddr(nameServers);
        client.start();
        instance = client.getDefaultMQProducerImpl().getmQClientFactory();
    }

    /** The address that is read from now. */
    String host(String topic) throws MQClientException {
        instance.updateTopicRouteInfoFromNameServer(topic);
        String name = instance.getMQAdminImpl().fetchSubscribeMessageQueues(topic).iterator().next().getBrokerName();
        return instance.findBrokerAddressInSubscribe(name, 0, true).getBrokerAddr();
    }

    @Override
    public void run() {
        try {
            while (!isStopping) {
                groups.forEach(this::look);
                Thread.sleep(500);
            }
        } catch (InterruptedException stopped) {
            // It was asked to.
        }
    }

    private void look(Readers group) {
        try {
            instance.updateTopicRouteInfoFromNameServer(group.topic);
            for (MessageQueue queue : instance.getMQAdminImpl().fetchSubscribeMessageQueues(group.topic)) {
                // A new one each time: it believes what it read before.
                long offset = new RemoteBrokerOffsetStore(instance, group.group).readOffset(queue, ReadOffsetType.READ_FROM_STORE);
                if (offset < 0) {
                    continue;
                }
                looks++;
                String place = group.group + " queue " + queue.getQueueId();
                Long before = seen.put(place, offset);
                if (before != null && offset < before) {
                    faults.add("the offset of " + place + " went back from " + before + " to " + offset);
                }
            }
        } catch (MQClientException unreachable) {
            // Later.
        }
    }

    void end() throws InterruptedException {
        isStopping = true;
        join();
        client.shutdown();
    }
}
